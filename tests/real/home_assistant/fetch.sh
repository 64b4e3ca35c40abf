#!/bin/sh
# Install Home Assistant with pip into a cache folder, once (600 MB), and print its Python. It needs Python 3.13: one on
# the PATH, or pyenv's. Ends with 3 and a line on stderr if there is none, or no registry. With --there it installs nothing.
set -eu
home=${TIERWISE_HOME_ASSISTANT:-${XDG_CACHE_HOME:-$HOME/.cache}/tierwise/home-assistant-2025.4.4}
if [ ! -x "$home/bin/python" ]; then
    [ "${1:-}" != --there ] || { echo "tests/real/home_assistant/fetch.sh was not run: Home Assistant is not tried" >&2; exit 3; }
    python=
    for found in python3.13 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13.*/bin/python3.13; do
        # One that runs: pyenv puts a python3.13 on the PATH that only says so where another version is chosen.
        "$found" -c 'import venv' 2>/dev/null && python=$found
    done
    [ -n "$python" ] || { echo "no Python 3.13 here: Home Assistant is not tried" >&2; exit 3; }
    rm -rf "$home.part"
    "$python" -m venv "$home.part" >&2
    if ! "$home.part/bin/python" -m pip install -q --disable-pip-version-check homeassistant==2025.4.4 paho-mqtt==2.1.0 >&2
    then
        rm -rf "$home.part"
        echo "pip has no registry here: Home Assistant is not tried" >&2
        exit 3
    fi
    mv -T "$home.part" "$home" 2>/dev/null || rm -rf "$home.part"
fi
echo "$home/bin/python"
