"""The sensors: the daemon's way along the same road, where nothing nests and everything goes through the queue.

What belongs here: what to request when, a module a stage. What does not: the runs themselves. A registry sensor turns
new and changed entries into partitions and queued `benchmark_model` runs, each once and while nobody conducts a
campaign, and asks again for those whose run was lost with its worker (`registered`); others request `promote` when a
campaign's last tier is in (`measured`), and `deploy` or `roll_out` when a bundle was made (`bundled`); one more goes on
with rollouts, a run a wave (`under_way`), and one looks after devices (`devices`).
A run that will be started again is not over, and a model that was measured after its campaign was decided gets a
decision of its own: what was decided is never changed.

No sensor is told of single events: each looks at what there is, and remembers from when on it has to look. Dagster's
run-status sensors pass over an event for ever when their function raises, and what raises may be no more than a
database that is being restarted.
See https://docs.dagster.io/guides/automate/sensors
"""

from milton_assets.sensors.bundled import deploy_when_bundled
from milton_assets.sensors.devices import look_after_devices
from milton_assets.sensors.measured import promote_when_measured
from milton_assets.sensors.registered import registry_sensor
from milton_assets.sensors.under_way import go_on_with_rollouts

SENSORS = [
    registry_sensor,
    promote_when_measured,
    deploy_when_bundled,
    go_on_with_rollouts,
    look_after_devices,
]
"""Every sensor; they run wherever a daemon runs."""
