"""Runs scenarios: plans the measurements, makes each one in a Locust process of its own, and judges the generator."""
