#!/bin/sh
# Makes the captures of the MySQL decoder anew: a MariaDB server of its own on 127.0.0.1, several clients, tcpdump.
# Needs mariadb-server, mariadb-client, tcpdump, and Python with PyMySQL and mysql-connector-python; run it as root:
#   python3 -m venv V && V/bin/pip install PyMySQL mysql-connector-python && plugins/mysql/tests/make_captures.sh V/bin/python
set -eu
python=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
port=33071
mariadb-install-db --no-defaults --user=root --datadir="$work/data" --auth-root-authentication-method=normal \
    --skip-test-db > "$work/install.log"
mariadbd --no-defaults --user=root --datadir="$work/data" --port=$port --bind-address=127.0.0.1 --socket="$work/socket" \
    --local-infile=1 --skip-name-resolve 2> "$work/server.log" &
server=$!
trap 'kill $server; wait $server || true; rm -rf "$work"' EXIT
until mariadb --no-defaults -u root -S "$work/socket" -e 'CREATE DATABASE shop' 2> "$work/client.log"; do sleep 1; done
mariadb --no-defaults -u root -S "$work/socket" -e 'CREATE TABLE shop.items (id INT)'
for user in mariadb mariadb_zlib pymysql connector connector_zlib; do
    mariadb --no-defaults -u root -S "$work/socket" \
        -e "CREATE USER $user@'127.0.0.1' IDENTIFIED BY 'pass word'; GRANT ALL ON *.* TO $user@'127.0.0.1'"
done
printf '7,from a file\n8,from a file\n' > "$work/items.csv"

capture() {
    name=$1
    shift
    tcpdump -i lo -n -U -w - "tcp port $port" > "$work/$name.pcap" 2> "$work/tcpdump.log" &
    dump=$!
    until grep -q 'listening on' "$work/tcpdump.log"; do sleep 0.1; done
    "$@"
    sleep 1.5
    kill -INT $dump
    wait $dump
    grep -q '^0 packets dropped by kernel' "$work/tcpdump.log"
    cp "$work/$name.pcap" "$here/captures/$name.pcap"
}

client() {
    user=$1
    shift
    mariadb --no-defaults -h 127.0.0.1 -P $port -u "$user" '-ppass word' --skip-ssl --local-infile=1 --force "$@" shop > /dev/null
}

# The same statements by every client, compressed and not: tests compare what podtap makes of each.
same() {
    client mariadb < "$here/session.sql" 2> "$work/client.log" || true
    client mariadb_zlib --compress < "$here/session.sql" 2> "$work/client.log" || true
    "$python" "$here/clients.py" session $port "$here/session.sql"
}

# What else clients do: logins that fail, prepared statements, change of user and database, several results, a file.
tour() {
    "$python" "$here/clients.py" tour $port
    sed "s|@FILE@|$work/items.csv|" "$here/tour.sql" | client mariadb 2> "$work/client.log" || true
}

capture session same
capture tour tour
ls -l "$here"/captures/*.pcap
