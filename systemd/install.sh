#!/bin/sh
# Install the user units of Milton Autobench, with this checkout's paths filled in.
set -eu

usage() {
    cat <<'HELP'
Usage: systemd/install.sh [--daemon | --serve | --no-start] [--relaxed] [--destination DIR]

  (default)          install the units and start the timer: a campaign every six hours
  --daemon           start the Dagster daemon and the web UI instead of the timer
  --serve            serve the target `local` at the settings' address instead of the timer
  --no-start         only write the units
  --relaxed          give back what a GPU, vLLM or a kernel without user namespaces needs
  --destination DIR  where the units go (default: ${XDG_CONFIG_HOME:-~/.config}/systemd/user)

Either way edge targets are recovered first, now and whenever the user's services start.

The state folder is taken from MILTON_STATE_DIR, the cache from MILTON_CACHE_DIR, as they are now. Settings for the
services go into ${XDG_CONFIG_HOME:-~/.config}/milton/milton.env, one NAME=VALUE a line.
HELP
}

fail() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

start=timer
relaxed=no
destination=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
while [ $# -gt 0 ]; do
    case $1 in
        --daemon) start=daemon ;;
        --serve) start=serve ;;
        --no-start) start=nothing ;;
        --relaxed) relaxed=yes ;;
        --destination)
            [ $# -ge 2 ] || fail "--destination needs a directory" 2
            destination=$2
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            usage >&2
            fail "unknown option $1" 2
            ;;
    esac
    shift
done

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
project=$(dirname -- "$here")
parts=$project/milton_assets/agent/systemd
state=${MILTON_STATE_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/milton}
cache=${MILTON_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/milton}

for path in "$project" "$state" "$cache"; do
    case $path in
        [!/]*) fail "$path is relative; expected an absolute path" ;;
        *[!A-Za-z0-9/._+@:-]*) fail "$path holds characters that unit files give a meaning to; move it elsewhere" ;;
    esac
done
[ -x "$project/.venv/bin/milton" ] || fail "$project/.venv/bin/milton is missing; run \`make install\` first"

# The services may write below these two alone, and a path that is not there would keep them from starting.
mkdir -p -- "$state" "$cache" "$destination"

for unit in milton-autobench.service milton-autobench.timer milton-dagster-daemon.service milton-dagster-webserver.service \
    milton-recover.service milton-serve.service; do
    sed -e "/^@HARDENING@\$/{r $parts/hardening.conf
d
}" "$here/$unit" |
        sed -e "s|@PROJECT@|$project|g" -e "s|@STATE@|$state|g" -e "s|@CACHE@|$cache|g" >"$destination/.$unit.new"
    mv -- "$destination/.$unit.new" "$destination/$unit"
    case $unit in
        *.service)
            dropin=$destination/$unit.d/relaxed.conf
            if [ "$relaxed" = yes ]; then
                mkdir -p -- "$destination/$unit.d"
                cp -- "$parts/relaxed.conf" "$dropin"
            else
                rm -f -- "$dropin"
            fi
            ;;
    esac
done
echo "Installed the units in $destination (state: $state)."

case $start in
    nothing) exit 0 ;;
    timer) units="milton-recover.service milton-autobench.timer" ;;
    serve) units="milton-recover.service milton-serve.service" ;;
    daemon) units="milton-recover.service milton-dagster-daemon.service milton-dagster-webserver.service" ;;
esac
systemctl --user daemon-reload || fail "no user service manager answers; log in on a machine that runs systemd, or use --no-start"
# shellcheck disable=SC2086 # a list of unit names
systemctl --user enable --now $units
echo "Started $units. To keep it running after you log out: loginctl enable-linger"
