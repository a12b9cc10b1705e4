"""Plans evaluated on Ray, on this machine or on a cluster. Read ``ray_workers`` first.

``ray_workers`` is the executor. Ray ends the process of a driver whose raylet or head is lost; therefore a process of
its own, the broker, drives Ray: ``broker_link`` starts it and talks to it, ``broker`` is what runs there. There
``worker_pool`` holds the actors and survives their loss, ``metrics`` sets Ray's metrics, ``watchdog`` ends the Ray of
a killed driver. ``accelerators`` chooses the device that plans run on there. ``travel`` packs what workers need,
``worker_check`` says early where they cannot work.
"""
