"""What two hosts must agree on: the message, the metrics, the errors. Imports nothing of ours."""
