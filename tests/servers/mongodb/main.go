// Command mongodb is a server that speaks MongoDB's protocol, for Toimik's tests on machines without a mongod.
//
// It embeds FerretDB 1 over SQLite, because FerretDB's own command refuses to start when it is built from the
// module proxy. What is acknowledged is in the directory's SQLite files, so that the server may be killed at any time.
// It is no replica set and has no transactions.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	address := flag.String("address", "127.0.0.1:0", "where to listen: loopback `HOST:PORT`, port 0 for a free one")
	directory := flag.String("directory", "", "existing `DIRECTORY` of the SQLite files; without it, data is in memory")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *address, *directory); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve prints the server's URL on standard output as soon as it accepts connections, and returns once ctx is done.
func serve(ctx context.Context, address, directory string) error {
	if err := checkLoopback(address); err != nil {
		return err
	}
	store, err := sqliteURL(directory)
	if err != nil {
		return err
	}
	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: address},
		Handler:   "sqlite",
		SQLiteURL: store,
		Logger:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	fmt.Println(server.MongoDBURI())
	return <-ended
}

// checkLoopback refuses to show a server without passwords to a network.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%s is not a loopback address", host)
	}
	return nil
}

// sqliteURL names the directory, or the memory, in the words of FerretDB.
func sqliteURL(directory string) (string, error) {
	if directory == "" {
		return "file:./?mode=memory", nil
	}
	absolute, err := filepath.Abs(directory)
	if err != nil {
		return "", err
	}
	if information, err := os.Stat(absolute); err != nil || !information.IsDir() {
		return "", errors.New(absolute + " is not a directory")
	}
	return (&url.URL{Scheme: "file", Path: absolute + "/"}).String(), nil
}
