"""A session by PyMySQL and by MySQL Connector/Python.

    mysql_session.py FILE USER,PORT,COMPRESS ...

FILE has a statement a line, behind it what is bound to its placeholders, separated by tabs: it is prepared then, where the
driver can. Users are named after the driver. What the server refuses is passed over.
"""

import sys

import mysql.connector
import pymysql
from pymysql.constants import CLIENT

SESSION = [line.rstrip("\n").split("\t") for line in open(sys.argv[1])]


def with_pymysql(user, port):
    client = pymysql.connect(host="127.0.0.1", port=port, user=user, database="sbtest", autocommit=True,
                             local_infile=True, client_flag=CLIENT.MULTI_STATEMENTS)
    for sql, *values in SESSION:
        cursor = client.cursor()
        try:
            # It has no prepared statements: it writes the values into the text.
            cursor.execute(sql.replace("?", "%s") if values else sql, values or None)
            while cursor.nextset():
                pass
        except pymysql.Error:
            pass
        cursor.close()
    client.close()


def with_connector(user, port, compress):
    client = mysql.connector.connect(
        host="127.0.0.1", port=port, user=user, database="sbtest", ssl_disabled=True, use_pure=True, compress=compress,
        charset="utf8mb4", collation="utf8mb4_general_ci", autocommit=True, allow_local_infile=True)
    for sql, *values in SESSION:
        cursor = client.cursor(prepared=True) if values else client.cursor()
        try:
            cursor.execute(sql, *([values] if values else []), **({} if values else {"map_results": True}))
            while True:
                if cursor.with_rows:
                    cursor.fetchall()
                if values or not cursor.nextset():
                    break
        except mysql.connector.Error:
            pass
        cursor.close()
    client.close()


for session in sys.argv[2:]:
    user, port, compress = session.split(",")
    if user.startswith("pymysql"):
        with_pymysql(user, int(port))
    else:
        with_connector(user, int(port), compress == "1")
