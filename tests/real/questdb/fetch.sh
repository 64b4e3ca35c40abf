#!/bin/sh
# Fetch QuestDB (30 MB) with Maven into a cache folder, once: it takes InfluxDB's v2 writes. Prints the folder.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=${TIERWISE_QUESTDB_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tierwise/questdb-9.3.0}
if [ ! -d "$home" ]; then
    mkdir -p "$(dirname "$home")"
    part=$(mktemp -d "$home.XXXXXX")
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$part" >&2
    # Somebody else may have been quicker.
    mv -T "$part" "$home" 2>/dev/null || mv "$part" "$home"
fi
echo "$home"
