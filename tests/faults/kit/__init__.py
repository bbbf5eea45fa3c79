"""What the fault tests share: processes, databases, clients and load."""
