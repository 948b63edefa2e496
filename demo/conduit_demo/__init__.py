"""A demonstration of Conduit: real HTTP requests through a LiteLLM Router that learns which deployment to choose."""
