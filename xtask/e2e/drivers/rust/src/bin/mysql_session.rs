//! A session by mysql_async. Takes what mysql_session.py takes.

use mysql_async::prelude::Queryable;
use mysql_async::{Compression, Conn, Error, OptsBuilder, Params, Value, WhiteListFsHandler};

async fn session(statements: &str, user: &str, port: u16, compress: bool) -> Result<(), Error> {
    let options = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .user(Some(user))
        .db_name(Some("sbtest"))
        .prefer_socket(false)
        .compression(compress.then(Compression::default))
        .local_infile_handler(Some(WhiteListFsHandler::new(
            statements.split('\'').filter(|part| part.starts_with('/')).map(std::path::PathBuf::from),
        )));
    let mut client = Conn::new(options).await?;
    for line in statements.lines() {
        let mut parts = line.split('\t');
        let sql = parts.next().unwrap_or_default();
        let values: Vec<Value> = parts.map(Value::from).collect();
        let done = if values.is_empty() {
            client.query_drop(sql).await
        } else {
            client.exec_drop(sql, Params::Positional(values)).await
        };
        match done {
            Ok(()) | Err(Error::Server(_)) => {}
            Err(error) => return Err(error),
        }
    }
    client.disconnect().await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let statements = std::fs::read_to_string(arguments.next().ok_or("no file")?)?;
    for each in arguments {
        let parts: Vec<&str> = each.split(',').collect();
        let [user, port, compress] = parts[..] else { return Err(each.into()) };
        session(&statements, user, port.parse()?, compress == "1").await?;
    }
    Ok(())
}
