"""The result store: what was asked and answered, in MariaDB, MySQL or SQLite; imports nothing of the receiver."""
