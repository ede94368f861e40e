"""What each fault leaves: processes killed, statements failing, connections cut, answers lost."""
