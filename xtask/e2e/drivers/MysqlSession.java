import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.List;

/** A session by MariaDB Connector/J and by MySQL Connector/J. Takes what mysql_session.py takes. */
class MysqlSession {
    public static void main(String[] arguments) throws Exception {
        List<String> statements = Files.readAllLines(Path.of(arguments[0]));
        for (int index = 1; index < arguments.length; index++) {
            String[] session = arguments[index].split(",");
            String kind = session[0].startsWith("mariadb") ? "mariadb" : "mysql";
            String url = "jdbc:" + kind + "://127.0.0.1:" + session[1] + "/sbtest?user=" + session[0]
                + "&useServerPrepStmts=true&allowMultiQueries=true&allowLoadLocalInfile=true&allowLocalInfile=true"
                + "&useCompression=" + session[2].equals("1") + "&sslMode=" + (kind == "mysql" ? "DISABLED" : "disable");
            try (Connection connection = DriverManager.getConnection(url)) {
                for (String line : statements) {
                    run(connection, line.split("\t"));
                }
            }
        }
    }

    private static void run(Connection connection, String[] line) throws SQLException {
        boolean prepared = line.length > 1;
        try (Statement statement = prepared ? connection.prepareStatement(line[0]) : connection.createStatement()) {
            boolean rows;
            if (statement instanceof java.sql.PreparedStatement bound && prepared) {
                for (int index = 1; index < line.length; index++) {
                    bound.setString(index, line[index]);
                }
                rows = bound.execute();
            } else {
                rows = statement.execute(line[0]);
            }
            while (rows || statement.getUpdateCount() != -1) {
                rows = statement.getMoreResults();
            }
        } catch (SQLException refused) {
            if (refused.getErrorCode() == 0) {
                throw refused;
            }
        }
    }
}
