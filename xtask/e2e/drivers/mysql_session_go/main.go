// A session by Go's MySQL driver. Takes what mysql_session.py takes.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/go-sql-driver/mysql"
)

func run(connection *sql.Conn, statement string, values []any) error {
	context := context.Background()
	if !strings.HasPrefix(statement, "SELECT") {
		_, err := connection.ExecContext(context, statement, values...)
		return err
	}
	rows, err := connection.QueryContext(context, statement, values...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for more := true; more; more = rows.NextResultSet() {
		for rows.Next() {
		}
	}
	return rows.Err()
}

func session(statements []string, user, port, compress string) error {
	for _, statement := range statements {
		if parts := strings.Split(statement, "'"); strings.HasPrefix(statement, "LOAD") {
			mysql.RegisterLocalFile(parts[1])
		}
	}
	options := "multiStatements=true"
	if compress == "1" {
		options += "&compress=true"
	}
	pool, err := sql.Open("mysql", fmt.Sprintf("%s@tcp(127.0.0.1:%s)/sbtest?%s", user, port, options))
	if err != nil {
		return err
	}
	defer pool.Close()
	connection, err := pool.Conn(context.Background())
	if err != nil {
		return err
	}
	defer connection.Close()
	for _, statement := range statements {
		parts := strings.Split(statement, "\t")
		var values []any
		for _, value := range parts[1:] {
			values = append(values, value)
		}
		var refused *mysql.MySQLError
		if err := run(connection, parts[0], values); err != nil && !errors.As(err, &refused) {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

func main() {
	file, err := os.ReadFile(os.Args[1])
	statements := strings.Split(strings.TrimSuffix(string(file), "\n"), "\n")
	for _, each := range os.Args[2:] {
		parts := strings.Split(each, ",")
		if err == nil {
			err = session(statements, parts[0], parts[1], parts[2])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
