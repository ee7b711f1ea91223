"""What all adapters share: payloads whose every part is accounted for, moments, names and units."""
