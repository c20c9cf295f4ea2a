"""What Locust runs: users that send requests or hold streams, and what they count."""
