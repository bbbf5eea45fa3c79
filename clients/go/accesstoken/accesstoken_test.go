package accesstoken_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"latchkey.example/clients/go/accesstoken"
)

// vectors is crates/token-verifier/vectors/tokens.json.
type vectors struct {
	Now   int64
	Rules struct {
		Iss       string
		Aud       string
		ExpLeeway int `json:"exp_leeway"`
		ClockSkew int `json:"clock_skew"`
	}
	JWKS   json.RawMessage
	Tokens []struct {
		Name   string
		Token  string
		Valid  bool
		Reason string
		Claims claims
	}
}

type claims struct {
	Sub   string
	Email string
	Iat   int64
	Exp   int64
	Nbf   *int64
	Iss   string
	Aud   []string
	Jti   string
	Gen   uint64
	Sid   string

	EmailVerified *bool `json:"email_verified"`
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	text, err := os.ReadFile(os.Getenv("VECTORS"))
	if err != nil {
		t.Fatal("VECTORS must name tokens.json: ", err)
	}
	var file vectors
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestVectors(t *testing.T) {
	file := readVectors(t)
	keys, err := accesstoken.ParseKeySet(file.JWKS)
	if err != nil || len(keys) != 6 {
		t.Fatalf("%d keys instead of 6, %v", len(keys), err)
	}
	validator := accesstoken.New(keys, file.Rules.Iss, file.Rules.Aud)
	validator.ExpLeeway = time.Duration(file.Rules.ExpLeeway) * time.Second
	validator.ClockSkew = time.Duration(file.Rules.ClockSkew) * time.Second
	validator.Now = func() time.Time { return time.Unix(file.Now, 0) }

	count := map[bool]int{}
	for _, vector := range file.Tokens {
		count[vector.Valid]++
		t.Run(vector.Name, func(t *testing.T) {
			got, err := validator.Validate(t.Context(), vector.Token)
			if !vector.Valid {
				expectReason(t, err, vector.Reason)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := accesstoken.Claims{
				Subject:   vector.Claims.Sub,
				Email:     vector.Claims.Email,
				IssuedAt:  time.Unix(vector.Claims.Iat, 0),
				ExpiresAt: time.Unix(vector.Claims.Exp, 0),
				Issuer:    vector.Claims.Iss,
				Audience:  vector.Claims.Aud,
				ID:        vector.Claims.Jti,

				Generation:    vector.Claims.Gen,
				SessionID:     vector.Claims.Sid,
				EmailVerified: vector.Claims.EmailVerified,
			}
			if vector.Claims.Nbf != nil {
				want.NotBefore = time.Unix(*vector.Claims.Nbf, 0)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
	if count[true] < 20 || count[false] < 100 {
		t.Errorf("too few vectors: %v", count)
	}
}

func expectReason(t *testing.T, err error, reason string) {
	t.Helper()
	var invalid *accesstoken.InvalidError
	if !errors.As(err, &invalid) || invalid.Reason != reason {
		t.Errorf("got %v, want %s", err, reason)
	}
}

// issuer is a key, its tokens, and its JWKS.
type issuer struct {
	kid      atomic.Value
	private  ed25519.PrivateKey
	requests atomic.Int32
}

func newIssuer(t *testing.T, kid string) *issuer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{private: private}
	i.kid.Store(kid)
	return i
}

// token is a good one but for these claims.
func (i *issuer) token(t *testing.T, kid string, changes jwt.MapClaims) string {
	t.Helper()
	now := time.Now().Unix()
	claims := jwt.MapClaims{"sub": "f47ac10b-58cc-4372-a567-0e02b2c3d479", "iat": now, "exp": now + 60}
	for name, value := range changes {
		claims[name] = value
	}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	token.Header["kid"] = kid
	text, err := token.SignedString(i.private)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (i *issuer) jwks() []byte {
	public := i.private.Public().(ed25519.PublicKey)
	return fmt.Appendf(nil, `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":%q,"x":%q}]}`,
		i.kid.Load(), base64.RawURLEncoding.EncodeToString(public))
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	i.requests.Add(1)
	_, _ = w.Write(i.jwks())
}

func TestTheClockAndThePartiesAreSettings(t *testing.T) {
	issuer := newIssuer(t, "one")
	keys, err := accesstoken.ParseKeySet(issuer.jwks())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	late := issuer.token(t, "one", jwt.MapClaims{"exp": now - 5})
	early := issuer.token(t, "one", jwt.MapClaims{"iat": now + 80})

	strict := accesstoken.New(keys, "", "")
	if _, err := strict.Validate(t.Context(), issuer.token(t, "one", nil)); err != nil {
		t.Error("neither issuer nor audience is asked for: ", err)
	}
	_, err = strict.Validate(t.Context(), late)
	expectReason(t, err, "expired")
	_, err = strict.Validate(t.Context(), early)
	expectReason(t, err, "not_yet_valid")

	lenient := accesstoken.New(keys, "", "")
	lenient.ExpLeeway, lenient.ClockSkew = 30*time.Second, 100*time.Second
	for _, token := range []string{late, early} {
		if _, err := lenient.Validate(t.Context(), token); err != nil {
			t.Error(err)
		}
	}
}

func TestKeysAreFetchedOnceAndKeptWhenTheirSourceIsAway(t *testing.T) {
	issuer := newIssuer(t, "one")
	server := httptest.NewServer(issuer)
	defer server.Close()

	calm := accesstoken.New(accesstoken.NewJWKS(server.URL), "", "")
	for range 5 {
		if _, err := calm.Validate(t.Context(), issuer.token(t, "one", nil)); err != nil {
			t.Fatal(err)
		}
	}
	if got := issuer.requests.Load(); got != 1 {
		t.Errorf("%d requests instead of 1", got)
	}

	restless := accesstoken.NewJWKS(server.URL)
	restless.MaxAge, restless.RetryAfter = 0, 0
	validator := accesstoken.New(restless, "", "")
	for round := range 3 {
		if round == 1 {
			server.Close()
		}
		if _, err := validator.Validate(t.Context(), issuer.token(t, "one", nil)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnUnknownKidCausesOneFetchHoweverManyCome(t *testing.T) {
	issuer := newIssuer(t, "one")
	server := httptest.NewServer(issuer)
	defer server.Close()

	// A rotation is noticed.
	jwks := accesstoken.NewJWKS(server.URL)
	jwks.RetryAfter = 0
	validator := accesstoken.New(jwks, "", "")
	for _, kid := range []string{"one", "two"} {
		issuer.kid.Store(kid)
		if _, err := validator.Validate(t.Context(), issuer.token(t, kid, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if got := issuer.requests.Load(); got != 2 {
		t.Errorf("%d requests instead of 2", got)
	}

	validator = accesstoken.New(accesstoken.NewJWKS(server.URL), "", "")
	var group sync.WaitGroup
	for i := range 20 {
		token := issuer.token(t, fmt.Sprintf("made up %d", i), nil)
		group.Go(func() {
			_, err := validator.Validate(t.Context(), token)
			expectReason(t, err, "unknown_key")
		})
	}
	group.Wait()
	if got := issuer.requests.Load(); got != 3 {
		t.Errorf("%d requests instead of 3", got)
	}
}

func TestWithoutAnyKeysATokenIsNeitherGoodNorBad(t *testing.T) {
	issuer := newIssuer(t, "one")
	for name, handler := range map[string]http.Handler{
		"not found": http.NotFoundHandler(),
		"not JSON":  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }),
		"too large": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "%s%*s", issuer.jwks(), 256*1024, "")
		}),
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(handler)
			defer server.Close()
			validator := accesstoken.New(accesstoken.NewJWKS(server.URL), "", "")
			_, err := validator.Validate(context.Background(), issuer.token(t, "one", nil))
			if !errors.Is(err, accesstoken.ErrKeysUnavailable) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAKeyThatCannotBeReadDoesNotHarmTheOthers(t *testing.T) {
	good := newIssuer(t, "one").jwks()
	var document struct{ Keys []any }
	if err := json.Unmarshal(good, &document); err != nil {
		t.Fatal(err)
	}
	document.Keys = append(document.Keys, nil, 1, map[string]any{},
		map[string]any{"kty": []string{"RSA"}},
		map[string]any{"kty": "RSA", "n": 1, "e": "AQAB"},
		map[string]any{"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
		map[string]any{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"})
	text, err := json.Marshal(map[string]any{"keys": document.Keys})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := accesstoken.ParseKeySet(text)
	if err != nil || len(keys) != 1 {
		t.Errorf("%d keys instead of 1, %v", len(keys), err)
	}
}
