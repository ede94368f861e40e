"""What the tests are written with: back ends, servers, hosts, rivals; no test is in here."""
