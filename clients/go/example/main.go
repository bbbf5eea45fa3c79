// Command example registers an account, logs in, reads and changes its profile,
// and reads what errors say.
//
//	AUTH_GRPC=localhost:50051 USER_GRPC=localhost:50052 go run ./example
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	authv1 "latchkey.example/clients/go/gen/auth/v1"
	userv1 "latchkey.example/clients/go/gen/user/v1"
	"latchkey.example/clients/go/problem"
)

func main() {
	// Calls without a deadline can wait for ever.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	auth := cmp.Or(os.Getenv("AUTH_GRPC"), "localhost:50051")
	user := cmp.Or(os.Getenv("USER_GRPC"), "localhost:50052")
	if err := run(ctx, os.Stdout, auth, user); err != nil {
		log.Fatal(err)
	}
}

// dial opens a plaintext channel. Where the services are behind TLS, give it
// credentials.NewTLS(nil) instead.
func dial(target string) (*grpc.ClientConn, error) {
	return grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// withToken returns a context whose calls carry this access token.
func withToken(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func isServing(ctx context.Context, conn *grpc.ClientConn, service string) (bool, error) {
	request := &healthv1.HealthCheckRequest{Service: service}
	answer, err := healthv1.NewHealthClient(conn).Check(ctx, request)
	return answer.GetStatus() == healthv1.HealthCheckResponse_SERVING, err
}

func run(ctx context.Context, out io.Writer, authTarget, userTarget string) error {
	authConn, err := dial(authTarget)
	if err != nil {
		return err
	}
	defer authConn.Close()
	userConn, err := dial(userTarget)
	if err != nil {
		return err
	}
	defer userConn.Close()

	serving, err := isServing(ctx, authConn, "auth.v1.AuthService")
	if err != nil {
		return fmt.Errorf("health of the auth service: %w", err)
	}
	fmt.Fprintln(out, "auth service is serving:", serving)
	serving, err = isServing(ctx, userConn, "user.v1.UserService")
	if err != nil {
		return fmt.Errorf("health of the user service: %w", err)
	}
	fmt.Fprintln(out, "user service is serving:", serving)

	auth := authv1.NewAuthServiceClient(authConn)
	users := userv1.NewUserServiceClient(userConn)
	email := strings.ToLower("ada-" + rand.Text() + "@example.com")
	password := rand.Text()
	account, err := auth.Register(ctx, &authv1.RegisterRequest{Email: email, Password: password})
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	fmt.Fprintln(out, "registered:", account.GetId())

	login, err := auth.Login(ctx, &authv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	fmt.Fprintln(out, "logged in for", login.GetExpiresIn(), "seconds")
	asAda := withToken(ctx, login.GetAccessToken())

	// The profile comes into being with the first call that carries the token.
	got, err := users.GetUser(asAda, &userv1.GetUserRequest{Id: account.GetId()})
	if err != nil {
		return fmt.Errorf("read the profile: %w", err)
	}
	fmt.Fprintln(out, "profile of:", got.GetUser().GetEmail())

	// The mask names what changes; the entity tag refuses the change if another
	// came first.
	updated, err := users.UpdateUser(asAda, &userv1.UpdateUserRequest{
		User:       &userv1.User{Id: account.GetId(), Name: "Ada Lovelace"},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}},
		Etag:       got.GetUser().GetEtag(),
	})
	if err != nil {
		return fmt.Errorf("change the profile: %w", err)
	}
	fmt.Fprintln(out, "name:", updated.GetUser().GetName())

	_, err = auth.Register(ctx, &authv1.RegisterRequest{Email: "not an address", Password: "short"})
	refused := problem.Of(err)
	fmt.Fprintln(out, "refused:", refused.Code, refused.Reason)
	for _, violation := range refused.Violations {
		fmt.Fprintf(out, "  %s: %s\n", violation.GetField(), violation.GetDescription())
	}

	// Whoever guesses is soon told to wait, and so is whoever knows the password.
	for range 20 {
		_, err := auth.Login(ctx, &authv1.LoginRequest{Email: email, Password: "a guess"})
		if throttled := problem.Of(err); throttled.RetryAfter > 0 {
			fmt.Fprintf(out, "%s: try again in %s\n", throttled.Reason, throttled.RetryAfter)
			break
		}
	}
	return nil
}
