"""The systemd user units: installed with this checkout's paths, accepted by systemd, and rated by it."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from milton_assets.agent.unit import UNITS as UNITS_BELOW_HOME
from milton_assets.fleet.remote_shell import AGENT

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICES = (
    "milton-autobench.service",
    "milton-dagster-daemon.service",
    "milton-dagster-webserver.service",
    "milton-recover.service",
    "milton-serve.service",
)
UNITS = (*SERVICES, "milton-autobench.timer")
MOST_EXPOSURE = 2.0
MOST_EXPOSURE_RELAXED = 6.5


@pytest.fixture(scope="session")
def systemd_analyze() -> str:
    """The program that judges units. A machine without it cannot run these tests; continuous integration must."""
    program = shutil.which("systemd-analyze")
    if program is None and os.environ.get("CI"):
        pytest.fail("systemd-analyze is missing, so the units were not verified; install the package `systemd`")
    if program is None:
        pytest.skip("systemd-analyze is not on this machine")
    return program


class Checkout:
    """A checkout with a virtual environment in it, its user's folders, and the installer run in it."""

    def __init__(self, root: Path) -> None:
        self.project = root / "project"
        self.units = root / "units"
        for part in ("systemd", "milton_assets/agent/systemd"):
            shutil.copytree(REPOSITORY / part, self.project / part)
        (self.project / "docs").mkdir()
        (self.project / "docs/systemd.md").touch()
        (root / "run").mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "MILTON_STATE_DIR": str(root / "state"),
            "MILTON_CACHE_DIR": str(root / "cache"),
            "XDG_RUNTIME_DIR": str(root / "run"),
        }
        self.program("milton-serve", "exit 0")
        self.program("milton", "echo \"export GREETING='hello world'\"")

    def program(self, name: str, script: str) -> None:
        """Put a program into the virtual environment."""
        path = self.project / ".venv/bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run(self, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command as the checkout's user."""
        return subprocess.run(
            command, env={**self.environment, **environment}, capture_output=True, text=True, timeout=60
        )

    def install(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the installer into `units`."""
        installer = self.project / "systemd/install.sh"
        return self.run(installer, "--destination", str(self.units), *options, **environment)

    def unit(self, name: str) -> configparser.RawConfigParser:
        """An installed unit, parsed; of a setting that is given twice, the last."""
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string((self.units / name).read_text())
        return parser


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_units_are_installed_with_every_path_filled_in(checkout: Checkout) -> None:
    done = checkout.install("--no-start")
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in checkout.units.iterdir()} == set(UNITS)
    for name in UNITS:
        text = (checkout.units / name).read_text()
        assert not re.search(r"@[A-Z]+@", text)
    service = checkout.unit("milton-autobench.service")["Service"]
    assert service["WorkingDirectory"] == str(checkout.project)
    assert service["ExecStart"] == f"{checkout.project}/systemd/with-milton-env dagster job execute -j autobench"
    assert (
        service["ReadWritePaths"]
        == f"{checkout.environment['MILTON_STATE_DIR']} {checkout.environment['MILTON_CACHE_DIR']}"
    )


def test_a_campaign_runs_every_six_hours_spread_and_made_up_for(checkout: Checkout) -> None:
    checkout.install("--no-start")
    timer = checkout.unit("milton-autobench.timer")["Timer"]
    assert dict(timer) == {"OnCalendar": "*-*-* 00/6:00:00", "RandomizedDelaySec": "30min", "Persistent": "true"}


def test_targets_are_recovered_at_start_up_before_anything_deploys_to_them(checkout: Checkout) -> None:
    checkout.install("--no-start")
    unit = checkout.unit("milton-recover.service")
    started = unit["Service"]["ExecStart"].split()
    assert started[0] == f"{checkout.project}/.venv/bin/milton"
    assert " ".join(started[1:]) == "recover --all --wait 60"
    assert unit["Unit"]["Before"] == "milton-autobench.service milton-dagster-daemon.service"
    assert (unit["Service"]["Type"], unit["Install"]["WantedBy"]) == ("oneshot", "default.target")


def test_serving_outlives_a_model_server_that_ran_out_of_memory(checkout: Checkout) -> None:
    checkout.install("--no-start")
    unit = checkout.unit("milton-serve.service")
    assert unit["Service"]["ExecStart"] == f"{checkout.project}/.venv/bin/milton-serve"
    assert (unit["Service"]["OOMPolicy"], unit["Service"]["Restart"]) == ("continue", "on-failure")
    assert unit["Unit"]["After"] == "milton-recover.service"


@pytest.mark.parametrize("name", ["milton-autobench.service", "milton-dagster-daemon.service"])
def test_a_campaign_gets_8_gigabytes_and_4_cores_at_most(checkout: Checkout, name: str) -> None:
    checkout.install("--no-start")
    service = checkout.unit(name)["Service"]
    assert (service["MemoryMax"], service["CPUQuota"]) == ("8G", "400%")


@pytest.mark.parametrize("options", [(), ("--relaxed",)])
def test_systemd_accepts_every_unit(checkout: Checkout, systemd_analyze: str, options: tuple[str, ...]) -> None:
    checkout.install("--no-start", *options)
    judged = checkout.run(systemd_analyze, "verify", "--user", *(checkout.units / name for name in UNITS))
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, "")


def test_systemd_refuses_a_unit_that_is_wrong(checkout: Checkout, systemd_analyze: str) -> None:
    checkout.install("--no-start")
    unit = checkout.units / "milton-autobench.service"
    unit.write_text(unit.read_text().replace("MemoryMax=8G", "MemoryMax=much"))
    judged = checkout.run(systemd_analyze, "verify", "--user", unit)
    assert "Invalid memory limit" in judged.stdout + judged.stderr


def exposure(checkout: Checkout, systemd_analyze: str, name: str) -> float:
    judged = checkout.run(systemd_analyze, "security", "--user", "--offline=yes", "--no-pager", checkout.units / name)
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", judged.stdout)
    assert match, judged.stdout + judged.stderr
    return float(match.group(1))


@pytest.mark.parametrize("name", SERVICES)
def test_systemd_rates_the_exposure_of_a_service_as_low(checkout: Checkout, systemd_analyze: str, name: str) -> None:
    checkout.install("--no-start")
    assert exposure(checkout, systemd_analyze, name) <= MOST_EXPOSURE


@pytest.fixture
def device_unit(checkout: Checkout) -> str:
    """The unit of a device's gateway, written beside the others by the device's agent; its name."""
    home = Path(checkout.environment["HOME"])
    agent = home / AGENT
    agent.parent.mkdir(parents=True)
    agent.write_text("#!/bin/sh\n")
    agent.chmod(0o755)
    words = ["--target", "kitchen", "unit", "--host", "0.0.0.0", "--port", "8080"]
    done = checkout.run(sys.executable, "-m", "milton_assets.agent", *words, PYTHONPATH=str(REPOSITORY))
    assert done.returncode == 0, done.stderr
    name = "milton-gateway-kitchen.service"
    assert f"systemctl --user enable --now {name}" in done.stdout
    checkout.units.mkdir()
    shutil.copy(home / UNITS_BELOW_HOME / name, checkout.units / name)
    return name


def test_a_devices_gateway_is_hardened_as_the_others_and_accepted(
    checkout: Checkout, systemd_analyze: str, device_unit: str
) -> None:
    judged = checkout.run(systemd_analyze, "verify", "--user", checkout.units / device_unit)
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, "")
    assert exposure(checkout, systemd_analyze, device_unit) <= MOST_EXPOSURE


def test_a_devices_gateway_recovers_first_and_may_write_what_it_serves(checkout: Checkout, device_unit: str) -> None:
    service = checkout.unit(device_unit)["Service"]
    agent = f"%h/{AGENT} --target kitchen"
    assert service["ExecStartPre"] == f"-{agent} recover"
    assert service["ExecStart"] == f"{agent} gateway --host 0.0.0.0 --port 8080"
    state, cache = (checkout.environment[f"MILTON_{name}_DIR"] for name in ("STATE", "CACHE"))
    assert service["ReadWritePaths"] == f"{state} {cache} {state}/deployments/kitchen"
    assert (service["OOMPolicy"], service["Restart"]) == ("continue", "on-failure")


def test_relaxing_is_what_raises_the_exposure_and_only_so_far(checkout: Checkout, systemd_analyze: str) -> None:
    checkout.install("--no-start", "--relaxed")
    unit = checkout.units / SERVICES[0]
    relaxed = (checkout.units / f"{SERVICES[0]}.d/relaxed.conf").read_text().split("[Service]")[1]
    unit.write_text(unit.read_text() + relaxed)  # `security --offline` reads no drop-ins
    assert MOST_EXPOSURE < exposure(checkout, systemd_analyze, SERVICES[0]) <= MOST_EXPOSURE_RELAXED


def test_installing_again_without_relaxed_takes_the_relaxation_back(checkout: Checkout) -> None:
    checkout.install("--no-start", "--relaxed")
    assert (checkout.units / f"{SERVICES[0]}.d/relaxed.conf").exists()
    checkout.install("--no-start")
    assert not (checkout.units / f"{SERVICES[0]}.d/relaxed.conf").exists()


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_every_option(checkout: Checkout, option: str) -> None:
    told = checkout.install(option)
    assert told.returncode == 0
    for name in ("--daemon", "--no-start", "--relaxed", "--destination", "MILTON_STATE_DIR", "milton.env"):
        assert name in told.stdout


def test_an_unknown_option_is_a_usage_error(checkout: Checkout) -> None:
    refused = checkout.install("--fast")
    assert refused.returncode == 2
    assert "unknown option --fast" in refused.stderr


def test_a_destination_without_a_directory_is_a_usage_error(checkout: Checkout) -> None:
    refused = checkout.run(checkout.project / "systemd/install.sh", "--destination")
    assert (refused.returncode, refused.stderr) == (2, "install.sh: --destination needs a directory\n")


@pytest.mark.parametrize("folder", ["relative/state", "/srv/100%", "/srv/a b", "/srv/$HOME"])
def test_a_path_that_a_unit_would_read_otherwise_is_refused(checkout: Checkout, folder: str) -> None:
    refused = checkout.install("--no-start", MILTON_STATE_DIR=folder)
    assert refused.returncode == 1
    assert folder in refused.stderr
    assert not checkout.units.exists()


def test_without_a_virtual_environment_it_says_what_to_do(checkout: Checkout) -> None:
    (checkout.project / ".venv/bin/milton").unlink()
    refused = checkout.install("--no-start")
    assert refused.returncode == 1
    assert "make install" in refused.stderr


def test_without_a_service_manager_it_says_so(checkout: Checkout) -> None:
    (checkout.project / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    (checkout.project / "systemctl").chmod(0o755)
    refused = checkout.install(PATH=f"{checkout.project}:{os.environ['PATH']}")
    assert refused.returncode == 1
    assert "--no-start" in refused.stderr


@pytest.mark.parametrize(
    ("options", "started"),
    [
        ((), "milton-recover.service milton-autobench.timer"),
        (("--daemon",), "milton-recover.service milton-dagster-daemon.service milton-dagster-webserver.service"),
    ],
)
def test_it_starts_the_timer_or_the_daemon(checkout: Checkout, options: tuple[str, ...], started: str) -> None:
    log = checkout.project / "log"
    (checkout.project / "systemctl").write_text(f'#!/bin/sh\necho "$*" >>{log}\n')
    (checkout.project / "systemctl").chmod(0o755)
    done = checkout.install(*options, PATH=f"{checkout.project}:{os.environ['PATH']}")
    assert done.returncode == 0
    assert log.read_text().splitlines() == ["--user daemon-reload", f"--user enable --now {started}"]
    assert f"Started {started}" in done.stdout


def test_the_services_run_with_the_exports_of_milton_env(checkout: Checkout) -> None:
    done = checkout.run(checkout.project / "systemd/with-milton-env", "sh", "-c", 'echo "$GREETING"; exit 3')
    assert (done.returncode, done.stdout) == (3, "hello world\n")


def test_when_milton_env_fails_nothing_is_run(checkout: Checkout) -> None:
    checkout.program("milton", "echo broken >&2; exit 1")
    done = checkout.run(checkout.project / "systemd/with-milton-env", "echo", "ran")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "broken\n")
