"""What a run found: kept, summed up, judged, drawn."""
