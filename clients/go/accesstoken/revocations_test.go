package accesstoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"latchkey.example/clients/go/accesstoken"
)

// revocationVectors is crates/token-verifier/vectors/revocations.json.
type revocationVectors struct {
	Tokens map[string]string
	Cases  []struct {
		Name   string
		Pages  []json.RawMessage
		Cursor string
		Checks []struct {
			Token   string
			Now     int64
			Verdict string
		}
	}
	Malformed  []string
	PassedOver []string `json:"passed_over"`
}

func readRevocationVectors(t *testing.T) revocationVectors {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(os.Getenv("VECTORS")), "revocations.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file revocationVectors
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestRevocationVectors(t *testing.T) {
	given, file := readVectors(t), readRevocationVectors(t)
	keys, err := accesstoken.ParseKeySet(given.JWKS)
	if err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) < 10 {
		t.Errorf("too few cases: %d", len(file.Cases))
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			now := time.Unix(given.Now, 0)
			list := accesstoken.NewRevocationList()
			list.Now = func() time.Time { return now }
			for _, text := range c.Pages {
				page, err := accesstoken.ParseRevocationPage(text)
				if err != nil {
					t.Fatal(err)
				}
				if err := list.Apply(page); err != nil {
					t.Fatal(err)
				}
			}
			if list.Cursor() != c.Cursor {
				t.Errorf("the cursor is %q, not %q", list.Cursor(), c.Cursor)
			}
			validator := accesstoken.New(keys, given.Rules.Iss, given.Rules.Aud)
			validator.Now = list.Now
			validator.Revocations = list
			for _, check := range c.Checks {
				now = time.Unix(check.Now, 0)
				_, err := validator.Validate(t.Context(), file.Tokens[check.Token])
				if verdict(err) != check.Verdict {
					t.Errorf("%s at %d: got %s, want %s", check.Token, check.Now, verdict(err), check.Verdict)
				}
			}
		})
	}
	for _, text := range file.Malformed {
		if _, err := accesstoken.ParseRevocationPage([]byte(text)); err == nil {
			t.Errorf("taken as a page: %s", text)
		}
	}
	for _, text := range file.PassedOver {
		if _, err := accesstoken.ParseRevocationPage([]byte(text)); err != nil {
			t.Errorf("not taken as a page: %s", text)
		}
	}
}

func verdict(err error) string {
	var invalid *accesstoken.InvalidError
	switch {
	case err == nil:
		return "valid"
	case errors.As(err, &invalid):
		return invalid.Reason
	}
	return err.Error()
}

func TestAListIsFollowedAndOutlivesItsSource(t *testing.T) {
	file := readRevocationVectors(t)
	page := func(name string) []byte {
		for _, c := range file.Cases {
			if c.Name == name {
				return c.Pages[0]
			}
		}
		t.Fatal(name)
		return nil
	}
	var answer atomic.Pointer[[]byte]
	var requests atomic.Int32
	source := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if text := answer.Load(); text != nil {
			_, _ = w.Write(*text)
		} else {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer source.Close()
	nothing := page("nothing")
	answer.Store(&nothing)
	list := accesstoken.NewRevocationList()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go list.Follow(ctx, source.URL)
	// The session of the vectors ended long ago: the entry is given another end.
	claims := accesstoken.Claims{SessionID: "01976f3a-8d2c-7b4e-9f10-00000000000a"}
	if list.Revokes(claims) {
		t.Error("revoked before the list says so")
	}
	var parsed map[string]any
	if err := json.Unmarshal(page("a session"), &parsed); err != nil {
		t.Fatal(err)
	}
	parsed["entries"].([]any)[0].(map[string]any)["until"] = time.Now().Add(time.Hour).Unix()
	text, _ := json.Marshal(parsed)
	answer.Store(&text)
	deadline := time.Now().Add(5 * time.Second)
	for !list.Revokes(claims) {
		if time.Now().After(deadline) {
			t.Fatal("not known within 5 s")
		}
		time.Sleep(20 * time.Millisecond)
	}
	answer.Store(nil)
	before := requests.Load()
	for requests.Load() < before+2 {
		time.Sleep(20 * time.Millisecond)
	}
	if age, ok := list.Age(); !list.Revokes(claims) || !ok || age < 100*time.Millisecond {
		t.Error("what is known does not outlive its source")
	}
}
