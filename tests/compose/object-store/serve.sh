#!/bin/sh
# What the compose file tells SeaweedFS is ignored; the variables count.
exec /opt/venv/bin/rclone serve s3 --config /dev/null --addr 0.0.0.0:8333 --auth-key "$AWS_ACCESS_KEY_ID,$AWS_SECRET_ACCESS_KEY" --vfs-cache-mode off /data
