#!/usr/bin/env bash
# Runs the stack as its users do and looks whether it keeps what it promises. Where there is no Docker engine, it says so
# and ends well. Takes some seven minutes. Leaves nothing behind if all is well; after a failure the stack stays, with its
# logs and volumes, and the last lines say how to look at it and how to remove it.
#
#   build, up --wait, photos and readings by plain MQTT clients, answers of three tiers, the three topics of Kafka,
#   every container restarted and the roles killed under load, more replicas under load, TLS, a second site, an upgrade,
#   settings that are wrong, down. Nothing may be lost on the way.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=$PWD/.venv/bin/python
WORK=$(mktemp -d)
IMAGE_MAX_MB=500

say() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }
row() { printf '%-44s %s\n' "$1" "$2" | tee -a "$WORK/table"; }
fail() { echo "FAILED: $1" >&2; exit 1; }
skip() { echo "compose/check.sh: $1: skipped"; exit 0; }

# --- can it run here? -----------------------------------------------------------------------------------------------
command -v docker >/dev/null && docker compose version >/dev/null 2>&1 || skip "no docker compose here"
C=(docker compose -f compose/compose.yaml)
for profiles in edge cloud edge,cloud edge-light,cloud-light; do
    COMPOSE_PROFILES=$profiles "${C[@]}" config -q || fail "compose.yaml with profiles $profiles is not valid"
done
SITE=barn SECRETS=./secrets docker compose -f compose/compose.site.yaml config -q || fail "compose.site.yaml is not valid"
echo "docker compose config: valid with every profile"
docker info >/dev/null 2>&1 || skip "no Docker engine here"

have() { docker image inspect "$1" >/dev/null 2>&1 || docker pull -q "$1" >/dev/null 2>&1; }
image_of() { sed -n "s/^$1=//p" compose/.env; }
for name in MOSQUITTO_IMAGE KAFKA_IMAGE; do
    have "$(image_of $name)" || skip "$(image_of $name) can be had neither here nor from a registry"
done
have "python:3.11-slim" || skip "python:3.11-slim can be had neither here nor from a registry"
export COMPOSE_PROFILES=edge,cloud
if ! have "$(image_of INFLUXDB_IMAGE)" || ! have "$(image_of GRAFANA_IMAGE)"; then
    echo "InfluxDB and Grafana cannot be had here: without them (edge-light, cloud-light)"
    export COMPOSE_PROFILES=edge-light,cloud-light SITE_INFLUX_URL= INFLUX_URL=
fi

make -s .venv/.demo # its clients, and the package of their photos

# --- a stack of its own ---------------------------------------------------------------------------------------------
free_port() { "$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
export PROJECT=tierwise-check-$$ TIERWISE_VERSION=check SEALED=edge-private,user-private HOME_ASSISTANT=true
for port in MQTT_PORT MQTT_TLS_PORT UPLINK_PORT UPLINK_TLS_PORT KAFKA_TLS_PORT GRAFANA_PORT SITE_GRAFANA_PORT SITE_MQTT_PORT; do
    export "$port=$(free_port)"
done
STREAMS=12
printf '\n[device]\nsighting_gap_s = 1\n[edge]\ncloud_deadline_s = 5\n[kafka]\ncompression = "zstd"\n' >"$WORK/head.toml"
cat "$WORK/head.toml" compose/settings.toml >"$WORK/settings.toml"
for number in $(seq 2 $STREAMS); do
    printf '\n[streams."cam%s/garden"]\npixels = "edge-private"\nfeature = "%s"\nresult = "public"\n' "$number" \
        "$([ "$number" = 2 ] && echo edge-private || echo public)" >>"$WORK/settings.toml"
done
printf '\n[streams."door/door"]\npixels = "edge-private"\nfeature = "public"\nresult = "public"\n' >>"$WORK/settings.toml"
export SETTINGS=$WORK/settings.toml
TRAFFIC=
end() {
    code=$?
    [ -z "$TRAFFIC" ] || kill "$TRAFFIC" 2>/dev/null || true
    if [ $code != 0 ]; then
        "${C[@]}" ps -a || true
        "${C[@]}" logs --tail 15 --no-color 2>/dev/null | cut -c1-400 || true
        echo "The stack stays as it is, with its volumes: docker compose -p $PROJECT logs SERVICE; $WORK holds what was measured."
        echo "To remove it: for p in $PROJECT tierwise-barn; do docker compose -p \$p down -v; done; docker image rm tierwise:check; rm -r $WORK"
        exit $code
    fi
    SITE=barn SECRETS=./secrets docker compose -f compose/compose.site.yaml down -v -t 3 >/dev/null 2>&1 || true
    "${C[@]}" down -v --remove-orphans -t 5 >/dev/null 2>&1 || true
    docker image rm tierwise:check >/dev/null 2>&1 || true
    rm -rf "$WORK"
    exit $code
}
trap end EXIT

# `up --wait` gives up as soon as one container ends or is slow; all restart by themselves, so a busy machine gets three tries.
up() {
    for try in 1 2 3; do
        "$@" up -d --wait "${UP[@]}" >"$WORK/up.log" 2>&1 && return
        row "not healthy at once, try $try" "$(tail -1 "$WORK/up.log" | tr -d '\r' | cut -c1-100)"
    done
    grep -v ' Container ' "$WORK/up.log" || true
    fail "it does not become healthy: ${UP[*]}"
}
healthy() { UP=(--no-recreate "$@"); up "${C[@]}"; }

begin() { T0=$(date +%s.%N); }
took() { "$PYTHON" -c "print(f'{$(date +%s.%N) - $T0:.1f} s')"; }

say "build"
begin
"${C[@]}" build -q
row "build" "$(took)"
bytes=$(docker image inspect tierwise:check --format '{{.Size}}')
row "image" "$((bytes / 1000000)) MB"
[ $((bytes / 1000000)) -le $IMAGE_MAX_MB ] || fail "the image is larger than $IMAGE_MAX_MB MB"
for tool in pip gcc apt-get; do
    [ $tool = apt-get ] || ! docker run --rm --entrypoint sh tierwise:check -c "command -v $tool" >/dev/null || fail "$tool is in the image"
done
[ "$(docker run --rm --entrypoint id tierwise:check -u)" = 10001 ] || fail "the image runs as root"

say "up --wait"
begin
UP=()
up "${C[@]}"
row "up --wait, nothing there before" "$(took)"

say "logins"
"${C[@]}" run --rm -T init credentials --json >"$WORK/logins.json"
secret() { "$PYTHON" -c "import json, sys; print(next(l['password'] for l in map(json.loads, open('$WORK/logins.json')) if (l['where'], l['name']) == ('$1', '$2')))"; }
CAMERA_LOGIN=$(secret mqtt camera) VIEWER_LOGIN=$(secret mqtt viewer)
row "logins for people" "$(wc -l <"$WORK/logins.json")"

say "photos and a reading by plain MQTT clients"
"$PYTHON" - "$WORK" <<'PY'
import sys
from agents.demo.scenes import SCENES, jpegs
for scene in SCENES:
    open(f"{sys.argv[1]}/{scene.photo}.jpg", "wb").write(next(jpegs(scene, 1)))
PY
at_broker() { "${C[@]}" exec -T mosquitto "$@"; }
at_broker mosquitto_sub -u viewer -P "$VIEWER_LOGIN" -t 'tierwise/v1/home/+/result/+' -W 25 >"$WORK/answers" 2>/dev/null &
LISTENER=$!
sleep 1
publish() { at_broker mosquitto_pub -u camera -P "$CAMERA_LOGIN" -q 1 -t "tierwise/v1/home/$1" -s; }
publish cam1/frame/garden <"$WORK/chelsea.png.jpg"
publish door/frame/door <"$WORK/astronaut.png.jpg"
publish room1/reading/temperature <<<21.5
wait $LISTENER || true
for tier in device edge cloud; do
    grep -q "\"tier\":\"$tier\"" "$WORK/answers" || fail "no answer of the $tier tier"
    row "first answer of the $tier tier" "$(grep "\"tier\":\"$tier\"" "$WORK/answers" | grep -m1 cam1 | sed 's/.*"rank":"\([a-z]*\)","label":"\([^"]*\)".*"latency_ms":\([0-9.]*\).*/\1 \2, \3 ms/')"
done
! grep -q '"device":"door".*"tier":"cloud"' "$WORK/answers" || fail "a person's picture was answered by the cloud"
at_broker mosquitto_pub -u camera -P wrong -t x -m x 2>"$WORK/refused" && fail "a wrong password is let in"
row "a wrong password at MQTT" "$(tail -1 "$WORK/refused")"
at_broker timeout 4 mosquitto_sub -u viewer -P "$VIEWER_LOGIN" -t 'tierwise/v1/home/+/frame/+' -C 1 -W 3 >"$WORK/frames" 2>/dev/null &
LISTENER=$!
sleep 1
publish cam1/frame/garden <"$WORK/coffee.png.jpg"
wait $LISTENER || true
[ ! -s "$WORK/frames" ] || fail "a viewer may read frames"
row "frames that a viewer could read" 0

at_broker mosquitto_sub -u homeassistant -P "$(secret mqtt homeassistant)" -t 'homeassistant/#' -v -W 4 >"$WORK/entities" 2>/dev/null || true
[ "$(wc -l <"$WORK/entities")" -ge 10 ] || fail "Home Assistant is told of $(wc -l <"$WORK/entities") entities"
row "entities that Home Assistant is told of" "$(wc -l <"$WORK/entities")"

offsets() { # topic -> records, by Kafka's own tool
    printf 'security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="reader" password="%s";\n' "$(secret kafka reader)" |
        "${C[@]}" exec -T kafka bash -c 'cat >/tmp/reader.properties; export KAFKA_HEAP_OPTS=-Xmx128m; /opt/kafka/bin/kafka-get-offsets.sh --bootstrap-server kafka:9092 --command-config /tmp/reader.properties --topic "tierwise.*"' |
        awk -F: '{sum[$1] += $3} END {for (topic in sum) print topic, sum[topic]}' | sort
}
traffic() {
    PYTHONPATH=. "$PYTHON" tests/compose/traffic.py --port "$MQTT_PORT" --logins "$WORK/logins.json" --streams $STREAMS --report "$WORK/$1.json" &
    TRAFFIC=$!
}
settle() { # ends the traffic; waits until every event is answered; nothing may be lost
    kill "$TRAFFIC"
    wait "$TRAFFIC" || fail "the traffic ended badly"
    TRAFFIC=
    cat "$WORK/$1.json"
    "$PYTHON" - "$WORK/$1.json" <<'PY' || fail "events were lost while: $2"
import json, sys
told = json.load(open(sys.argv[1]))
sys.exit(any(told[name] for name in ("unacknowledged", "lost", "lost_on_the_way_to_the_cloud")) or not told["acknowledged"])
PY
    row "$2: events, late, lost" "$("$PYTHON" -c "import json; t = json.load(open('$WORK/$1.json')); print(f\"{t['acknowledged']}, {t['late']}, {t['lost'] + t['lost_on_the_way_to_the_cloud']}; answered by {t['answered_by']}\")")"
}

say "every container restarted, every role killed, under load"
traffic restarts
sleep 3
for service in mosquitto device edge uplink kafka gateway stream cloud trainer; do
    begin
    "${C[@]}" restart -t 20 $service >/dev/null 2>&1
    healthy
    row "restart of $service" "$(took)"
done
for service in device edge gateway stream cloud trainer; do
    "${C[@]}" kill -s KILL $service >/dev/null 2>&1
    sleep 1
    healthy
done
settle restarts "restarts and kills"

say "the topics of Kafka"
offsets | tee "$WORK/offsets"
for level in public edge-private user-private; do
    count=$(awk -v topic="tierwise.features.$level" '$1 == topic {print $2}' "$WORK/offsets")
    [ "${count:-0}" -gt 0 ] || fail "nothing in tierwise.features.$level"
    row "records in tierwise.features.$level" "$count"
done

say "more replicas under load: stream=3 cloud=2 gateway=2, and back"
traffic scale
sleep 3
begin
healthy --scale stream=3 --scale cloud=2 --scale gateway=2
row "scaled up" "$(took)"
sleep 10
healthy --scale stream=1 --scale cloud=1 --scale gateway=1
settle scale "scaling up and down"

say "an upgrade keeps what is there"
before=$(offsets | awk '$1 == "tierwise.features.public" {print $2}')
"${C[@]}" down -t 8 >/dev/null 2>&1
begin
UP=(--build)
up "${C[@]}"
row "up --build --wait, with data" "$(took)"
after=$(offsets | awk '$1 == "tierwise.features.public" {print $2}')
[ "$after" -ge "$before" ] || fail "Kafka held $before public features and now holds $after"
[ "$("${C[@]}" run --rm -T init credentials --json | md5sum)" = "$(md5sum <"$WORK/logins.json")" ] || fail "passwords changed"
row "public features before and after" "$before, $after"

say "TLS, and a second site"
begin
export TLS=on SITES=barn
UP=()
up "${C[@]}"
row "TLS=on" "$(took)"
"${C[@]}" run --rm -T init credentials --site barn >"$WORK/barn"
mkdir -m 700 "$WORK/secrets"
"${C[@]}" run --rm -T init credentials --site barn --password >"$WORK/secrets/uplink-password"
sed -n 's/^UPLINK_CA=//p' "$WORK/barn" | base64 -d >"$WORK/ca.pem"
"$PYTHON" - "$WORK" "$MQTT_TLS_PORT" "$UPLINK_TLS_PORT" "$KAFKA_TLS_PORT" <<'PY'
import socket, ssl, sys
context = ssl.create_default_context(cafile=f"{sys.argv[1]}/ca.pem")
for port in map(int, sys.argv[2:]):
    with socket.create_connection(("127.0.0.1", port), 5) as plain, context.wrap_socket(plain, server_hostname="localhost") as tls:
        print(f"port {port}: {tls.version()}")
PY
export SECRETS=$WORK/secrets UPLINK_CA UPLINK_ADDRESS
UPLINK_ADDRESS=mqtts://uplink:8883 UPLINK_CA=$(sed -n 's/^UPLINK_CA=//p' "$WORK/barn")
begin
BARN=(docker compose -f compose/compose.site.yaml)
export SITE=barn
up "${BARN[@]}"
row "second site, its uplink with TLS" "$(took)"
"${BARN[@]}" run --rm -T init credentials --json >"$WORK/barn-logins.json"
for container in $("${BARN[@]}" ps -aq; "${C[@]}" ps -aq); do docker inspect "$container"; done >"$WORK/inspect"
! grep -qF "$(cat "$WORK/secrets/uplink-password")" "$WORK/inspect" || fail "docker inspect shows the second site's password"
row "secrets in docker inspect" 0
barn() { "$PYTHON" -c "import json; print(next(l['password'] for l in map(json.loads, open('$WORK/barn-logins.json')) if (l['where'], l['name']) == ('mqtt', '$1')))"; }
BARN_CAMERA=$(barn camera) BARN_VIEWER=$(barn viewer)
"${BARN[@]}" exec -T mosquitto mosquitto_sub -u viewer -P "$BARN_VIEWER" -t 'tierwise/v1/barn/+/result/cloud' -C 1 -W 30 >"$WORK/barn-answers" &
LISTENER=$!
sleep 1
"${BARN[@]}" exec -T mosquitto mosquitto_pub -u camera -P "$BARN_CAMERA" -q 1 -t tierwise/v1/barn/cam1/frame/garden -s <"$WORK/chelsea.png.jpg"
wait $LISTENER || fail "the second site got no answer of the cloud"
row "the cloud's answer at the second site" "$(sed 's/.*"label":"\([^"]*\)".*/\1/' "$WORK/barn-answers")"
"${BARN[@]}" down -v -t 3 >/dev/null 2>&1
unset SITE SECRETS UPLINK_CA UPLINK_ADDRESS TLS SITES

say "settings that are wrong end in one line"
clear_line() { # what was wrong, text that must be in the answer
    grep -q "$2" "$WORK/wrong" || { cat "$WORK/wrong"; fail "$1: no line with \"$2\""; }
    row "$1" "$(grep -m1 "$2" "$WORK/wrong" | sed 's/^.*| //' | cut -c1-150)"
}
"${C[@]}" run --rm -T -e SITE='Our Home' init >"$WORK/wrong" 2>&1 && fail "a bad name was taken"
clear_line "a bad site name" "is not a valid name"
mkdir "$WORK/half" && echo x >"$WORK/half/server.pem" && chmod -R a+rX "$WORK"
"${C[@]}" run --rm -T -e TLS=on -e CERTIFICATES=/half -v "$WORK/half:/half:ro" init >"$WORK/wrong" 2>&1 && fail "half a certificate was taken"
clear_line "a missing certificate" "server-key.pem is missing"
timeout 20 "${C[@]}" run --rm -T --no-deps -e TIERWISE_KAFKA__PASSWORD=wrong -e TIERWISE_KAFKA__PASSWORD_FILE= cloud >"$WORK/wrong" 2>&1 && fail "a bad password was taken"
clear_line "a bad password at Kafka" "refuses us"
(MQTT_PORT=$UPLINK_PORT PROJECT=$PROJECT-2 "${C[@]}" up -d mosquitto >"$WORK/wrong" 2>&1 && fail "a port was taken twice") || true
(PROJECT=$PROJECT-2 "${C[@]}" down -v >/dev/null 2>&1)
clear_line "a port in use" "port is already allocated\|address already in use"
"${C[@]}" run --rm -T --no-deps --entrypoint sh device -c 'true' >/dev/null 2>&1
docker run --rm --memory 24m --memory-swap 24m tierwise:check device >"$WORK/wrong" 2>&1 || echo "exit code $?: killed for memory, as docker inspect tells (OOMKilled)" >>"$WORK/wrong"
clear_line "too little memory" "exit code 137"

say "what it took"
docker stats --no-stream --format '{{.Name}} {{.MemUsage}}' | grep "^$PROJECT" | sort
say "down"
begin
"${C[@]}" down -v -t 8 >/dev/null 2>&1
row "down" "$(took)"
printf '\n'
cat "$WORK/table"
echo "compose/check.sh: all is well"
