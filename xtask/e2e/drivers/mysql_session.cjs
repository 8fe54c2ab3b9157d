// A session by mysql2. Takes what mysql_session.py takes.

const fs = require("fs");
const mysql = require("mysql2/promise");

const [file, ...sessions] = process.argv.slice(2);
const statements = fs.readFileSync(file, "utf8").trimEnd().split("\n").map((line) => line.split("\t"));

async function session(user, port, compress) {
    const client = await mysql.createConnection({
        host: "127.0.0.1", port, user, compress, database: "sbtest", multipleStatements: true,
        infileStreamFactory: (path) => fs.createReadStream(path),
    });
    for (const [sql, ...values] of statements) {
        const done = values.length > 0 ? client.execute(sql, values) : client.query(sql);
        await done.catch((error) => {
            if (!error.errno) throw error;
        });
    }
    await client.end();
}

(async () => {
    for (const each of sessions) {
        const [user, port, compress] = each.split(",");
        await session(user, Number(port), compress === "1");
    }
})();
