#!/bin/sh
# Install Home Assistant with pip into a cache folder, once (600 MB), and print its Python. It needs Python 3.13: one on
# the PATH, or pyenv's. Ends with 3 and a line on stderr if there is none, or no registry.
set -eu
home=${TIERWISE_HOME_ASSISTANT:-${XDG_CACHE_HOME:-$HOME/.cache}/tierwise/home-assistant-2025.4.4}
if [ ! -x "$home/bin/python" ]; then
    python=$(command -v python3.13 || ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13.*/bin/python3.13 2>/dev/null | tail -1)
    [ -x "$python" ] || { echo "no Python 3.13 here: Home Assistant is not tried" >&2; exit 3; }
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
