// Calls one method of a gRPC server again and again, from several clients at a time, and prints as JSON how many calls
// were made, how many failed, and the median of their latency in milliseconds.
//
//	grpcload ADDRESS METHOD REQUEST CLIENTS SECONDS
//
// REQUEST is the serialised message in hexadecimal digits. Responses are received whole and not parsed.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

type rawCodec struct{}

func (rawCodec) Name() string                        { return "proto" }
func (rawCodec) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func call(connection *grpc.ClientConn, method string, request []byte) error {
	stream, err := connection.NewStream(context.Background(), &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(&request); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		var response []byte
		if err := stream.RecvMsg(&response); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func main() {
	address, method := os.Args[1], os.Args[2]
	request, err := hex.DecodeString(os.Args[3])
	if err != nil {
		panic(err)
	}
	clients, _ := strconv.Atoi(os.Args[4])
	seconds, _ := strconv.ParseFloat(os.Args[5], 64)
	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var wait sync.WaitGroup
	var lock sync.Mutex
	var latencies []float64
	failed := 0
	for range clients {
		wait.Add(1)
		go func() {
			defer wait.Done()
			connection, err := grpc.NewClient(address,
				grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{}), grpc.MaxCallRecvMsgSize(1<<28)))
			if err != nil {
				panic(err)
			}
			defer connection.Close()
			for time.Now().Before(end) {
				began := time.Now()
				err := call(connection, method, request)
				took := float64(time.Since(began)) / float64(time.Millisecond)
				lock.Lock()
				latencies = append(latencies, took)
				if err != nil {
					failed++
				}
				lock.Unlock()
			}
		}()
	}
	wait.Wait()
	sort.Float64s(latencies)
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"calls": len(latencies), "failed": failed, "p50": latencies[len(latencies)/2],
	})
}
