"""The changes of the tables, each with its way up and down."""
