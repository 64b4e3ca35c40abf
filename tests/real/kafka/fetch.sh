#!/bin/sh
# Fetch Apache Kafka (36 MB of jars) with Maven into a cache folder, once. Prints the folder.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=${TIERWISE_KAFKA_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/tierwise/kafka-4.1.1-codecs}
if [ ! -d "$home" ]; then
    mkdir -p "$(dirname "$home")"
    part=$(mktemp -d "$home.XXXXXX")
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$part" >&2
    # Somebody else may have been quicker.
    mv -T "$part" "$home" 2>/dev/null || mv "$part" "$home"
fi
echo "$home"
