"""What we keep: immutable objects under keys, in a local folder or an object store."""
