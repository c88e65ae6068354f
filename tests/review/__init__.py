"""What an audit says, against trees, archives and a browser that are real."""
