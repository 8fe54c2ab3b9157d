//! Rust's driver against a MongoDB server, with its own record of every command. Takes and writes what
//! xtask/captures/mongodb.py does, and asks for much the same, as this driver does it.

use std::sync::{Arc, Mutex};

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use mongodb::error::Error;
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use mongodb::options::{ClientOptions, Compressor, IndexOptions};
use mongodb::{Client, Cursor, IndexModel};
use serde_json::{Value, json};

/// Request ids and lines, in the order of the commands.
type Record = Arc<Mutex<Vec<(i32, Value)>>>;

fn note(record: &Record, application: &str, event: CommandEvent) {
    let mut lines = record.lock().expect("no thread panics with it");
    fn of(lines: &mut [(i32, Value)], id: i32) -> Option<&mut Value> {
        lines.iter_mut().rev().find(|(known, _)| *known == id).map(|(_, line)| line)
    }
    match event {
        CommandEvent::Started(event) => {
            let line = json!({ "application": application, "command": event.command_name, "database": event.db });
            lines.push((event.request_id, line));
        }
        CommandEvent::Succeeded(event) => {
            let Some(line) = of(&mut lines, event.request_id) else { return };
            let errors = event.reply.get_array("writeErrors").map_or(0, Vec::len);
            let is_error = errors > 0 || event.reply.contains_key("writeConcernError");
            line["outcome"] = if is_error { "error" } else { "ok" }.into();
            if errors > 0 {
                line["write_errors"] = errors.into();
            }
            let cursor = event.reply.get_document("cursor");
            for batch in ["firstBatch", "nextBatch"] {
                if let Ok(returned) = cursor.clone().and_then(|cursor| cursor.get_array(batch)) {
                    line["returned"] = returned.len().into();
                }
            }
            let n = event.reply.get("n").and_then(|n| n.as_i32().map(i64::from).or_else(|| n.as_i64()));
            if let Some(n) = n.or_else(|| event.reply.get_f64("n").ok().map(|n| n as i64)) {
                line["n"] = n.into();
            }
        }
        CommandEvent::Failed(event) => {
            if let Some(line) = of(&mut lines, event.request_id) {
                line["outcome"] = "error".into();
            }
        }
        _ => {}
    }
}

fn refused<T>(result: Result<T, Error>) {
    assert!(result.is_err(), "the server took what it was to refuse");
}

async fn all(cursor: Result<Cursor<Document>, Error>) -> Result<usize, Error> {
    Ok(cursor?.try_collect::<Vec<_>>().await?.len())
}

async fn tour(arguments: &[String], application: &'static str, record: &Record) -> Result<(), Error> {
    let documents: i32 = arguments[1].parse().expect("a number");
    let mut options = ClientOptions::parse(&arguments[0]).await?;
    options.app_name = Some(application.to_owned());
    (options.max_pool_size, options.retry_writes, options.retry_reads) = (Some(1), Some(false), Some(false));
    options.compressors = arguments.get(3).map(|name| match name.as_str() {
        "snappy" => vec![Compressor::Snappy],
        "zlib" => vec![Compressor::Zlib { level: None }],
        _ => vec![Compressor::Zstd { level: None }],
    });
    let noted = Arc::clone(record);
    options.command_event_handler = Some(EventHandler::callback(move |event| note(&noted, application, event)));
    let client = Client::with_options(options)?;
    let orders = client.database("shop").collection::<Document>("orders");
    orders.drop().await?;
    let order = |n: i32| doc! { "_id": n, "customer": format!("customer {}", n % 97), "total": f64::from(n) * 1.5 };
    orders.insert_many((0..documents).map(order)).await?;
    let batch = (documents / 10).max(2) as u32;
    let found = all(orders.find(doc! { "total": { "$gte": 0 } }).batch_size(batch).await).await?;
    assert_eq!(found, documents as usize);
    orders.find_one(doc! { "customer": "customer 7" }).projection(doc! { "total": 1 }).sort(doc! { "_id": -1 }).await?;
    orders.insert_one(doc! { "_id": "late", "customer": "customer 7" }).await?;
    refused(orders.insert_one(doc! { "_id": "late" }).await);
    let writes = ["a", "a", "late", "b"].map(|id| doc! { "_id": id });
    refused(orders.insert_many(writes).ordered(false).await);
    orders.update_one(doc! { "_id": "a" }, doc! { "$set": { "total": 1 } }).await?;
    orders.delete_many(doc! { "_id": { "$in": ["b", "c"] } }).await?;
    let customer = doc! { "customer": "customer 7" };
    orders.update_many(customer, doc! { "$inc": { "total": 1 } }).comment("monthly").await?;
    orders.update_one(doc! { "_id": "new" }, doc! { "$set": { "total": 5 } }).upsert(true).await?;
    let group = doc! { "$group": { "_id": "$customer", "sum": { "$sum": "$total" } } };
    all(orders.aggregate([doc! { "$match": { "total": { "$gt": 10 } } }, group]).await).await?;
    orders.find_one_and_update(doc! { "_id": "new" }, doc! { "$set": { "total": 6 } }).await?;
    orders.find_one_and_delete(doc! { "_id": "nobody" }).await?;
    orders.count_documents(doc! { "total": { "$lt": 100 } }).await?;
    orders.estimated_document_count().await?;
    orders.distinct("customer", doc! { "total": { "$lt": 50 } }).await?;
    let index = IndexModel::builder().keys(doc! { "customer": 1 }).options(IndexOptions::default()).build();
    orders.create_index(index).await?;
    orders.delete_many(doc! { "total": { "$gt": 1e9 } }).await?;
    refused(all(orders.aggregate([doc! { "$nonsense": 1 }]).await).await);
    refused(orders.update_one(doc! {}, doc! { "$nonsense": { "total": 1 } }).await);
    orders.drop().await?;
    client.shutdown().await;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let record = Record::default();
    tour(&arguments, "tour", &record).await?;
    tour(&arguments, "second tour", &record).await?;
    for (_, line) in record.lock().expect("no thread panics with it").iter() {
        println!("{line}");
    }
    Ok(())
}
