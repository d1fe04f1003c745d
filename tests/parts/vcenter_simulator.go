// A vCenter of VMware's own simulator: one process, one inventory, over TLS, on a port that the system chooses.
// It prints the address once it listens, and ends by SIGTERM or when its standard input is closed.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/vmware/govmomi/simulator"
)

func main() {
	model := simulator.VPX()
	certificate := flag.String("cert", "", "file of the server's certificate")
	key := flag.String("key", "", "file of its key")
	user := flag.String("user", "federation", "the one account")
	passwordFile := flag.String("password-file", "", "file that holds its password")
	listen := flag.String("listen", "127.0.0.1:0", "address")
	delay := flag.Int("delay", 0, "milliseconds that every call takes")
	flag.IntVar(&model.Datacenter, "dc", 1, "datacenters")
	flag.IntVar(&model.Cluster, "clusters", 1, "clusters in each datacenter")
	flag.IntVar(&model.ClusterHost, "hosts", 3, "hosts in each cluster")
	flag.IntVar(&model.Host, "standalone", 0, "hosts without a cluster")
	flag.IntVar(&model.Machine, "vms", 0, "machines in each resource pool, which are nobody's")
	flag.IntVar(&model.Datastore, "datastores", 2, "datastores")
	flag.IntVar(&model.Portgroup, "portgroups", 2, "distributed port groups in each datacenter")
	flag.IntVar(&model.Pool, "pools", 0, "resource pools below each cluster's own")
	flag.IntVar(&model.Pod, "pods", 0, "datastore clusters")
	flag.Parse()
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)

	password, err := os.ReadFile(*passwordFile)
	if err != nil {
		log.Fatal(err)
	}
	model.DelayConfig.Delay = *delay
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	defer model.Remove()
	model.Service.Listen = &url.URL{Host: *listen, User: url.UserPassword(*user, string(password))}
	if *certificate != "" {
		pair, err := tls.LoadX509KeyPair(*certificate, *key)
		if err != nil {
			log.Fatal(err)
		}
		model.Service.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	server := model.Service.NewServer()
	defer server.Close()
	fmt.Printf("https://%s/sdk\n", server.URL.Host)

	go func() {
		io.Copy(io.Discard, os.Stdin)
		ended <- syscall.SIGTERM
	}()
	<-ended
	time.AfterFunc(5*time.Second, func() { os.Exit(1) })
}
