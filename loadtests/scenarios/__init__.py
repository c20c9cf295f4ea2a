"""The scenarios, each a locustfile that declares a `SCENARIO`. A new file here is a new scenario."""
