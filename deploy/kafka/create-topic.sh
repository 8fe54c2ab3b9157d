#!/bin/sh
# Creates the topic of podtap's events: create-topic.sh BROKERS TOPIC [PARTITIONS] [REPLICAS] [RETENTION-HOURS]
#
# README.md beside this file says why each setting is as it is. KAFKA_TOPICS names Kafka's tool where it is not in PATH
# under its usual name; KAFKA_CLIENT_CONFIG a file with the client's security settings.
set -eu

brokers=$1
topic=$2
partitions=${3:-12}
replicas=${4:-3}
retention_hours=${5:-168}

# One replica may be down and what was acknowledged is still on two, as far as there are so many.
in_sync=$((replicas > 1 ? replicas - 1 : 1))

exec "${KAFKA_TOPICS:-kafka-topics.sh}" ${KAFKA_CLIENT_CONFIG:+--command-config "$KAFKA_CLIENT_CONFIG"} \
    --bootstrap-server "$brokers" --create --if-not-exists --topic "$topic" \
    --partitions "$partitions" --replication-factor "$replicas" \
    --config min.insync.replicas="$in_sync" \
    --config cleanup.policy=delete \
    --config retention.ms=$((retention_hours * 3600000)) \
    --config compression.type=producer \
    --config max.message.bytes=1048588 \
    --config message.timestamp.type=CreateTime
