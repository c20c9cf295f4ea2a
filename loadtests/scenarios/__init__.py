"""The scenarios, each a module that declares a `SCENARIO`. A new file here is a new scenario."""
