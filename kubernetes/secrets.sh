#!/bin/sh
# Makes every secret, as the compose stack's init does, and prints a Kubernetes secret for each service. Run it again to
# change sites or to renew certificates. The folder holds every password: keep it where you keep your passwords.
#   SITE=home TLS=on PUBLIC_NAMES=cloud.example.org kubernetes/secrets.sh ./vault | kubectl apply -f -
set -eu
vault=${1:?say where the secrets shall be kept}
namespace=${NAMESPACE:-tierwise}
tierwise init --vault "$vault" --settings "${SETTINGS:-$(dirname "$0")/base/settings.toml}" >&2
for room in device edge gateway stream cloud trainer rights mosquitto uplink kafka; do
    printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: login-%s, namespace: %s}\ndata:\n' "$room" "$namespace"
    for file in "$vault/$room"/*; do
        [ ! -f "$file" ] || printf '  %s: %s\n' "$(basename "$file")" "$(base64 <"$file" | tr -d '\n')"
    done
done
