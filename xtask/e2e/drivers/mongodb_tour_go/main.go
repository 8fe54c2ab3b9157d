// Go's driver against a MongoDB server, with its own record of every command. Takes and writes what
// xtask/captures/mongodb.py does, and asks for much the same, as this driver does it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

type line struct {
	Application string `json:"application"`
	Command     string `json:"command"`
	Database    string `json:"database"`
	Outcome     string `json:"outcome"`
	Returned    *int   `json:"returned,omitempty"`
	N           *int64 `json:"n,omitempty"`
	WriteErrors *int   `json:"write_errors,omitempty"`
}

var lines []*line
var byRequest = map[int64]*line{}

func length(array bson.RawValue) *int {
	if values, ok := array.ArrayOK(); ok {
		if values, err := values.Values(); err == nil {
			length := len(values)
			return &length
		}
	}
	return nil
}

func succeeded(_ context.Context, event *event.CommandSucceededEvent) {
	line, reply := byRequest[event.RequestID], event.Reply
	line.Outcome = "ok"
	if line.WriteErrors = length(reply.Lookup("writeErrors")); line.WriteErrors != nil {
		line.Outcome = "error"
	}
	for _, batch := range []string{"firstBatch", "nextBatch"} {
		if returned := length(reply.Lookup("cursor", batch)); returned != nil {
			line.Returned = returned
		}
	}
	if n, ok := reply.Lookup("n").AsInt64OK(); ok {
		line.N = &n
	}
}

func must(err error) {
	if err != nil && err != mongo.ErrNoDocuments {
		panic(err)
	}
}

func refused(err error) {
	if err == nil {
		panic("the server took what it was to refuse")
	}
}

func all(cursor *mongo.Cursor, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	var found []bson.D
	err = cursor.All(context.Background(), &found)
	return len(found), err
}

func tour(application string) {
	documents, err := strconv.Atoi(os.Args[2])
	must(err)
	monitor := &event.CommandMonitor{
		Started: func(_ context.Context, event *event.CommandStartedEvent) {
			made := &line{Application: application, Command: event.CommandName, Database: event.DatabaseName}
			lines = append(lines, made)
			byRequest[event.RequestID] = made
		},
		Succeeded: succeeded,
		Failed: func(_ context.Context, event *event.CommandFailedEvent) {
			byRequest[event.RequestID].Outcome = "error"
		},
	}
	settings := options.Client().ApplyURI(os.Args[1]).SetAppName(application).SetMonitor(monitor).SetMaxPoolSize(1)
	settings.SetRetryWrites(false).SetRetryReads(false)
	if len(os.Args) > 4 {
		settings.SetCompressors([]string{os.Args[4]})
	}
	client, err := mongo.Connect(settings)
	must(err)
	ctx := context.Background()
	orders := client.Database("shop").Collection("orders")
	must(orders.Drop(ctx))
	many := make([]any, documents)
	for n := range many {
		many[n] = bson.D{{"_id", n}, {"customer", fmt.Sprintf("customer %d", n%97)}, {"total", float64(n) * 1.5}}
	}
	_, err = orders.InsertMany(ctx, many)
	must(err)
	batch := int32(max(documents/10, 2))
	found, err := all(orders.Find(ctx, bson.D{{"total", bson.D{{"$gte", 0}}}}, options.Find().SetBatchSize(batch)))
	must(err)
	if found != documents {
		panic(fmt.Sprint(found, " documents found"))
	}
	one := options.FindOne().SetProjection(bson.D{{"total", 1}}).SetSort(bson.D{{"_id", -1}})
	must(orders.FindOne(ctx, bson.D{{"customer", "customer 7"}}, one).Err())
	_, err = orders.InsertOne(ctx, bson.D{{"_id", "late"}, {"customer", "customer 7"}})
	must(err)
	_, err = orders.InsertOne(ctx, bson.D{{"_id", "late"}})
	refused(err)
	var writes []mongo.WriteModel
	for _, id := range []string{"a", "a", "late", "b"} {
		writes = append(writes, mongo.NewInsertOneModel().SetDocument(bson.D{{"_id", id}}))
	}
	_, err = orders.BulkWrite(ctx, writes, options.BulkWrite().SetOrdered(false))
	refused(err)
	_, err = orders.BulkWrite(ctx, []mongo.WriteModel{
		mongo.NewUpdateOneModel().SetFilter(bson.D{{"_id", "a"}}).SetUpdate(bson.D{{"$set", bson.D{{"total", 1}}}}),
		mongo.NewDeleteManyModel().SetFilter(bson.D{{"_id", bson.D{{"$in", bson.A{"b", "c"}}}}}),
	})
	must(err)
	customer := bson.D{{"customer", "customer 7"}}
	_, err = orders.UpdateMany(ctx, customer, bson.D{{"$inc", bson.D{{"total", 1}}}}, options.UpdateMany().SetComment("monthly"))
	must(err)
	isNew := bson.D{{"_id", "new"}}
	_, err = orders.UpdateOne(ctx, isNew, bson.D{{"$set", bson.D{{"total", 5}}}}, options.UpdateOne().SetUpsert(true))
	must(err)
	_, err = all(orders.Aggregate(ctx, bson.A{
		bson.D{{"$match", bson.D{{"total", bson.D{{"$gt", 10}}}}}},
		bson.D{{"$group", bson.D{{"_id", "$customer"}, {"sum", bson.D{{"$sum", "$total"}}}}}},
	}))
	must(err)
	must(orders.FindOneAndUpdate(ctx, isNew, bson.D{{"$set", bson.D{{"total", 6}}}}).Err())
	must(orders.FindOneAndDelete(ctx, bson.D{{"_id", "nobody"}}).Err())
	_, err = orders.CountDocuments(ctx, bson.D{{"total", bson.D{{"$lt", 100}}}})
	must(err)
	_, err = orders.EstimatedDocumentCount(ctx)
	must(err)
	must(orders.Distinct(ctx, "customer", bson.D{{"total", bson.D{{"$lt", 50}}}}).Err())
	_, err = orders.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{"customer", 1}}})
	must(err)
	_, err = orders.DeleteMany(ctx, bson.D{{"total", bson.D{{"$gt", 1e9}}}})
	must(err)
	_, err = all(orders.Aggregate(ctx, bson.A{bson.D{{"$nonsense", 1}}}))
	refused(err)
	_, err = orders.UpdateOne(ctx, bson.D{}, bson.D{{"$nonsense", bson.D{{"total", 1}}}})
	refused(err)
	must(orders.Drop(ctx))
	must(client.Disconnect(ctx))
}

func main() {
	tour("tour")
	tour("second tour")
	for _, line := range lines {
		text, err := json.Marshal(line)
		must(err)
		fmt.Println(string(text))
	}
}
