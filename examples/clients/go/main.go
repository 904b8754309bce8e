// Prints one datapoint: the catalogue comes from the server by gRPC, the bytes straight from S3.
//
//	go run . localhost:8765 photos 42
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	datas3tv1 "github.com/datas3t/datas3t/gen/go/datas3t/v1"
)

func main() {
	server, name := os.Args[1], os.Args[2]
	key, err := strconv.ParseUint(os.Args[3], 10, 64)
	check(err)
	connection, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	defer connection.Close()

	// One call answers where the keys are, with URLs that serve any range of bytes.
	client := datas3tv1.NewDatarangeServiceClient(connection)
	found, err := client.PresignDataranges(context.Background(), &datas3tv1.PresignDatarangesRequest{
		Datas3TName: name, FirstDatapoint: &key, LastDatapoint: &key,
	})
	check(err)
	if len(found.Dataranges) == 0 {
		log.Fatalf("%s has no datapoint %d", name, key)
	}
	datarange := found.Dataranges[0]

	// The index has 16 bytes for each datapoint (docs/format.md, "Index").
	at := 16 * (key - datarange.MinDatapointKey)
	record := get(datarange.PresignedIndexUrl, at, 16)
	position := binary.BigEndian.Uint64(record[0:8])
	headerBlocks := uint64(binary.BigEndian.Uint16(record[8:10]))
	size := uint64(binary.BigEndian.Uint16(record[10:12]))<<32 | uint64(binary.BigEndian.Uint32(record[12:16]))
	if size > 0 {
		_, err = os.Stdout.Write(get(datarange.PresignedDataUrl, position+512*headerBlocks, size))
		check(err)
	}
}

func get(url string, start, size uint64) []byte {
	request, err := http.NewRequest("GET", url, nil)
	check(err)
	request.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", start, start+size-1))
	response, err := http.DefaultClient.Do(request)
	check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	check(err)
	if response.StatusCode != http.StatusPartialContent || uint64(len(body)) != size {
		log.Fatalf("S3 responded %s with %d bytes", response.Status, len(body))
	}
	return body
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
