"""Clients of the captures: `session` runs a file of statements, `tour` does what else clients do."""

import sys

import mysql.connector
import pymysql

HOST = "127.0.0.1"
PASSWORD = "pass word"


def connector(port, user, **options):
    return mysql.connector.connect(
        host=HOST, port=port, user=user, password=PASSWORD, database="shop", ssl_disabled=True, use_pure=True,
        charset="utf8mb4", collation="utf8mb4_general_ci", autocommit=True, **options,
    )


def session(port, file):
    with open(file) as text:
        statements = [line.strip().rstrip(";") for line in text if line.strip()]
    clients = [
        pymysql.connect(host=HOST, port=port, user="pymysql", password=PASSWORD, database="shop", autocommit=True),
        connector(port, "connector"),
        connector(port, "connector_zlib", compress=True),
    ]
    for client in clients:
        for statement in statements:
            cursor = client.cursor()
            try:
                cursor.execute(statement)
                if cursor.description:
                    cursor.fetchall()
            except (pymysql.Error, mysql.connector.Error):
                pass
            cursor.close()
        client.close()


def tour(port):
    try:
        pymysql.connect(host=HOST, port=port, user="pymysql", password="hidden")
    except pymysql.Error:
        pass
    client = connector(port, "connector")
    prepared = client.cursor(prepared=True)
    for number in range(3):
        prepared.execute("SELECT id, name FROM items WHERE id > ? AND name <> 'hidden'", (number,))
        prepared.fetchall()
    prepared.execute("INSERT INTO items (name, price) VALUES (?, ?)", ("hidden value", 5))
    prepared.close()
    client.cmd_ping()
    client.cmd_statistics()
    client.cmd_init_db("mysql")
    client.cmd_change_user("pymysql", PASSWORD, "shop")
    client.cmd_reset_connection()
    many = client.cursor()
    many.execute("SELECT 1; SELECT 2, 'hidden'; DO 0", map_results=True)
    many.fetchall()
    while many.nextset():
        if many.with_rows:
            many.fetchall()
    client.close()


if __name__ == "__main__":
    if sys.argv[1] == "session":
        session(int(sys.argv[2]), sys.argv[3])
    else:
        tour(int(sys.argv[2]))
