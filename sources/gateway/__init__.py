"""The way in for what stations really send: translated, put on the topics, and only then acknowledged.

Every way in (HTTP, MQTT, files, cameras, what is fetched) makes an `Arrival` of what came and awaits
`Reception.take`, or a `Picture` and awaits `Reception.take_picture`. When that returns, the broker has
confirmed all that came of it; what it raises says whether to try again.
"""
