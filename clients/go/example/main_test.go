package main

import (
	"context"
	"crypto/rand"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"latchkey.example/clients/go/accesstoken"
	authv1 "latchkey.example/clients/go/gen/auth/v1"
	userv1 "latchkey.example/clients/go/gen/user/v1"
	"latchkey.example/clients/go/problem"
)

// services are the running ones, which the environment names (clients/README.md),
// with a new account.
type services struct {
	authConn, userConn *grpc.ClientConn
	auth               authv1.AuthServiceClient
	users              userv1.UserServiceClient

	ctx                        context.Context // with a deadline
	asOwner                    context.Context // with the account's token as well
	id, email, password, token string
}

func connect(t *testing.T) *services {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	s := &services{ctx: ctx, authConn: dialed(t, "AUTH_GRPC"), userConn: dialed(t, "USER_GRPC")}
	s.auth = authv1.NewAuthServiceClient(s.authConn)
	s.users = userv1.NewUserServiceClient(s.userConn)

	s.email = strings.ToLower("go-" + rand.Text() + "@example.com")
	s.password = rand.Text()
	account, err := s.auth.Register(ctx, &authv1.RegisterRequest{Email: s.email, Password: s.password})
	if err != nil {
		t.Fatal(err)
	}
	login, err := s.auth.Login(ctx, &authv1.LoginRequest{Email: s.email, Password: s.password})
	if err != nil {
		t.Fatal(err)
	}
	s.id, s.token, s.asOwner = account.GetId(), login.GetAccessToken(), withToken(ctx, login.GetAccessToken())
	return s
}

func dialed(t *testing.T, variable string) *grpc.ClientConn {
	t.Helper()
	target := required(t, variable)
	conn, err := dial(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func required(t *testing.T, variable string) string {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		t.Fatal(variable + " is not set")
	}
	return value
}

func expect(t *testing.T, err error, code codes.Code, reason string) problem.Problem {
	t.Helper()
	got := problem.Of(err)
	if got.Code != code || got.Reason != reason {
		t.Errorf("got %v, want %s %s", err, code, reason)
	}
	return got
}

func TestTheExampleRuns(t *testing.T) {
	var out strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := run(ctx, &out, required(t, "AUTH_GRPC"), required(t, "USER_GRPC")); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"auth service is serving: true\nuser service is serving: true\n",
		"name: Ada Lovelace\n",
		"refused: InvalidArgument validation_failed\n  email: ",
		"too_many_attempts: try again in ",
	} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("no %q in:\n%s", text, out.String())
		}
	}
}

func TestAProfileIsReadAndChangedMemberByMember(t *testing.T) {
	s := connect(t)
	get := func() *userv1.User {
		answer, err := s.users.GetUser(s.asOwner, &userv1.GetUserRequest{Id: s.id})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetUser()
	}
	update := func(user *userv1.User, paths ...string) *userv1.User {
		user.Id = s.id
		answer, err := s.users.UpdateUser(s.asOwner, &userv1.UpdateUserRequest{
			User:       user,
			UpdateMask: &fieldmaskpb.FieldMask{Paths: paths},
		})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetUser()
	}

	first := get()
	if first.GetId() != s.id || first.GetEmail() != s.email || first.GetName()+first.GetBio() != "" {
		t.Errorf("a new profile is %v", first)
	}
	update(&userv1.User{Name: "Ada", Bio: "Counts."}, "name", "bio")
	second := update(&userv1.User{Name: "Ada Lovelace", Bio: "is not in the mask"}, "name")
	if second.GetName() != "Ada Lovelace" || second.GetBio() != "Counts." {
		t.Errorf("the changed profile is %v", second)
	}
	if second.GetEtag() == first.GetEtag() {
		t.Error("the entity tag stays the same")
	}
	if got := get(); !proto.Equal(got, second) {
		t.Errorf("read %v after %v", got, second)
	}
}

func TestAllFaultsOfTheInputComeAtOnce(t *testing.T) {
	s := connect(t)
	_, err := s.auth.Register(s.ctx, &authv1.RegisterRequest{Email: "not an address", Password: "short"})
	refused := expect(t, err, codes.InvalidArgument, "validation_failed")
	var fields []string
	for _, violation := range refused.Violations {
		fields = append(fields, violation.GetField())
		if violation.GetDescription() == "" {
			t.Errorf("no description of %s", violation.GetField())
		}
	}
	if !reflect.DeepEqual(fields, []string{"email", "password"}) {
		t.Errorf("faults of %v", fields)
	}

	_, err = s.users.UpdateUser(s.asOwner, &userv1.UpdateUserRequest{
		User:       &userv1.User{Id: s.id},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"nickname"}},
	})
	refused = expect(t, err, codes.InvalidArgument, "validation_failed")
	if len(refused.Violations) != 1 {
		t.Errorf("faults: %v", refused.Violations)
	}
}

func TestAnEmailRegistersOnce(t *testing.T) {
	s := connect(t)
	_, err := s.auth.Register(s.ctx, &authv1.RegisterRequest{
		Email:    strings.ToUpper(s.email),
		Password: s.password,
	})
	expect(t, err, codes.AlreadyExists, "email_already_registered")
}

func TestTooManyFailedLoginsAreToldWhenToComeBack(t *testing.T) {
	s := connect(t)
	for range 3 {
		_, err := s.auth.Login(s.ctx, &authv1.LoginRequest{Email: s.email, Password: "a guess"})
		expect(t, err, codes.Unauthenticated, "invalid_credentials")
	}
	_, err := s.auth.Login(s.ctx, &authv1.LoginRequest{Email: s.email, Password: s.password})
	refused := expect(t, err, codes.ResourceExhausted, "too_many_attempts")
	if refused.RetryAfter <= 0 || refused.RetryAfter > 15*time.Minute {
		t.Errorf("try again in %s", refused.RetryAfter)
	}
}

func TestAStaleEtagIsToldApart(t *testing.T) {
	s := connect(t)
	answer, err := s.users.GetUser(s.asOwner, &userv1.GetUserRequest{Id: s.id})
	if err != nil {
		t.Fatal(err)
	}
	request := &userv1.UpdateUserRequest{
		User:       &userv1.User{Id: s.id, Name: "Ada"},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}},
		Etag:       answer.GetUser().GetEtag(),
	}
	if _, err := s.users.UpdateUser(s.asOwner, request); err != nil {
		t.Fatal(err)
	}
	_, err = s.users.UpdateUser(s.asOwner, request)
	expect(t, err, codes.Aborted, "precondition_failed")
}

func TestWhoMayDoWhat(t *testing.T) {
	s := connect(t)
	own := &userv1.GetUserRequest{Id: s.id}
	_, err := s.users.GetUser(s.ctx, own)
	expect(t, err, codes.Unauthenticated, "unauthenticated")
	_, err = s.users.GetUser(withToken(s.ctx, "x.y.z"), own)
	expect(t, err, codes.Unauthenticated, "invalid_token")
	nobody := "f47ac10b-58cc-4372-a567-0e02b2c3d479"
	_, err = s.users.GetUser(s.asOwner, &userv1.GetUserRequest{Id: nobody})
	expect(t, err, codes.NotFound, "user_not_found")
	_, err = s.users.DeleteUser(s.asOwner, &userv1.DeleteUserRequest{Id: nobody})
	expect(t, err, codes.PermissionDenied, "forbidden")

	if _, err := s.users.DeleteUser(s.asOwner, &userv1.DeleteUserRequest{Id: s.id}); err != nil {
		t.Fatal(err)
	}
	_, err = s.users.GetUser(s.asOwner, own)
	expect(t, err, codes.Unauthenticated, "account_deleted")
}

func TestHealthOfEachService(t *testing.T) {
	s := connect(t)
	for service, conn := range map[string]*grpc.ClientConn{
		"":                       s.authConn,
		"auth.v1.AccountService": s.authConn,
		"user.v1.UserService":    s.userConn,
	} {
		if serving, err := isServing(s.ctx, conn, service); err != nil || !serving {
			t.Errorf("%q is serving: %t, %v", service, serving, err)
		}
	}
	_, err := isServing(s.ctx, s.userConn, "auth.v1.AuthService")
	if got := problem.Of(err).Code; got != codes.NotFound {
		t.Errorf("an unknown service: %s", got)
	}
}

func TestAnErrorWithoutAnAnswerHasNoReason(t *testing.T) {
	conn, err := dial("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = isServing(t.Context(), conn, "")
	expect(t, err, codes.Unavailable, "")
}

func TestATokenOfTheRunningServiceIsValid(t *testing.T) {
	s := connect(t)
	keys := accesstoken.NewJWKS(required(t, "AUTH_HTTP") + "/.well-known/jwks.json")
	validate := func(token string, change func(*accesstoken.Validator)) (accesstoken.Claims, error) {
		validator := accesstoken.New(keys, "http://localhost:3000", "latchkey")
		change(validator)
		return validator.Validate(s.ctx, token)
	}

	claims, err := validate(s.token, func(*accesstoken.Validator) {})
	if err != nil {
		t.Fatal(err)
	}
	if claims.Subject != s.id || claims.Email != s.email || claims.ID == "" {
		t.Errorf("claims %+v", claims)
	}

	at := strings.LastIndexByte(s.token, '.') + 10
	other := "A"
	if s.token[at] == 'A' {
		other = "B"
	}
	forged := s.token[:at] + other + s.token[at+1:]
	for reason, row := range map[string]struct {
		token  string
		change func(*accesstoken.Validator)
	}{
		"bad_signature":  {forged, func(*accesstoken.Validator) {}},
		"wrong_issuer":   {s.token, func(v *accesstoken.Validator) { v.Issuer = "http://localhost:3001" }},
		"wrong_audience": {s.token, func(v *accesstoken.Validator) { v.Audience = "other" }},
		"expired": {s.token, func(v *accesstoken.Validator) {
			v.Now = func() time.Time { return claims.ExpiresAt }
		}},
		"not_yet_valid": {s.token, func(v *accesstoken.Validator) {
			v.Now = func() time.Time { return claims.IssuedAt.Add(-61 * time.Second) }
		}},
	} {
		_, err := validate(row.token, row.change)
		if invalid, ok := err.(*accesstoken.InvalidError); !ok || invalid.Reason != reason {
			t.Errorf("got %v, want %s", err, reason)
		}
	}
}
