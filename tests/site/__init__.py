"""What is published: the pages, the package, the public names, the figures."""
