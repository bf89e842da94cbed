// The peer of floor_front.c's bench.Bench, on grpc-go: peer PORT. request_cost.py builds it.
package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func in(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	message := new(wrapperspb.BytesValue)
	if err := decode(message); err != nil {
		return nil, err
	}
	if len(message.Value) == 0 {
		return nil, status.Error(codes.InvalidArgument, "no bytes")
	}
	return new(emptypb.Empty), nil
}

func upload(_ any, stream grpc.ServerStream) error {
	var all bytes.Buffer
	for {
		message := new(wrapperspb.BytesValue)
		if err := stream.RecvMsg(message); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		all.Write(message.Value)
	}
	if all.Len() == 0 {
		return status.Error(codes.InvalidArgument, "no bytes")
	}
	return stream.SendMsg(new(emptypb.Empty))
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		panic(err)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(1 << 25))
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "bench.Bench", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "In", Handler: in}},
		Streams: []grpc.StreamDesc{{StreamName: "Upload", Handler: upload, ClientStreams: true}}}, nil)
	panic(server.Serve(listener))
}
