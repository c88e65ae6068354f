"""A web service that clones git repositories, each in its own container, and answers with their trees."""
