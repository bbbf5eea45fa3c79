package accesstoken

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// Key is a public key and the one algorithm that it is for.
type Key struct {
	ID        string
	Algorithm string
	Public    crypto.PublicKey
}

// KeySet is some keys that do not change.
type KeySet []Key

// Keys returns the set itself.
func (s KeySet) Keys(context.Context, string) (KeySet, error) {
	return s, nil
}

// has tells whether there is a key for a token that names kid, or none.
func (s KeySet) has(kid string) bool {
	return slices.ContainsFunc(s, func(key Key) bool { return kid == "" || key.ID == kid })
}

// candidates are the keys that a token with this header may be signed by.
func (s KeySet) candidates(h header) (KeySet, error) {
	var named, candidates KeySet
	for _, key := range s {
		if !h.namesKey || key.ID == h.kid {
			named = append(named, key)
		}
	}
	for _, key := range named {
		if key.Algorithm == h.alg && len(candidates) < maxCandidates {
			candidates = append(candidates, key)
		}
	}
	switch {
	case len(named) == 0:
		return nil, invalid("unknown_key")
	case len(candidates) == 0:
		return nil, invalid("algorithm_mismatch")
	}
	return candidates, nil
}

// ParseKeySet reads the keys for signatures from a JWK set, and leaves all
// others out (RFC 7517, section 5).
func ParseKeySet(text []byte) (KeySet, error) {
	document, err := readObject(text)
	if err != nil {
		return nil, fmt.Errorf("not a JWK set: %w", err)
	}
	list, ok := document["keys"].([]any)
	if !ok {
		return nil, errors.New("not a JWK set: no list of keys")
	}
	var keys KeySet
	for _, item := range list {
		jwk, _ := item.(map[string]any)
		if key, ok := parseKey(jwk); ok {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func parseKey(jwk map[string]any) (Key, bool) {
	if !isForSignatures(jwk) {
		return Key{}, false
	}
	key := Key{}
	key.ID, _ = jwk["kid"].(string)
	kind, _ := jwk["kty"].(string)
	curve, _ := jwk["crv"].(string)
	switch {
	case kind == "RSA":
		n, e := number(jwk, "n"), number(jwk, "e")
		public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		if size := public.N.BitLen(); size < 2048 || size > 8192 || len(e) > 4 || public.E < 3 {
			return Key{}, false
		}
		key.Algorithm, key.Public = "RS256", public
	case kind == "EC" && curve == "P-256":
		point := slices.Concat([]byte{4}, number(jwk, "x"), number(jwk, "y"))
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		if err != nil {
			return Key{}, false
		}
		key.Algorithm, key.Public = "ES256", public
	case kind == "OKP" && curve == "Ed25519":
		public := number(jwk, "x")
		if len(public) != ed25519.PublicKeySize {
			return Key{}, false
		}
		key.Algorithm, key.Public = "EdDSA", ed25519.PublicKey(public)
	default:
		return Key{}, false
	}
	// The type says what a key is for; a key that says otherwise is for nothing.
	alg, present := jwk["alg"]
	return key, !present || alg == key.Algorithm || key.Algorithm == "EdDSA" && alg == "Ed25519"
}

func isForSignatures(jwk map[string]any) bool {
	if use, ok := jwk["use"]; ok && use != "sig" {
		return false
	}
	if operations, ok := jwk["key_ops"]; ok {
		list, _ := operations.([]any)
		return slices.Contains(list, any("verify"))
	}
	_, private := jwk["d"]
	return !private
}

func number(jwk map[string]any, name string) []byte {
	text, _ := jwk[name].(string)
	raw, _ := base64.RawURLEncoding.DecodeString(text)
	return raw
}

const maxJWKSBytes = 256 * 1024

// JWKS is the keys at a URL, made by NewJWKS: fetched when first needed, again
// when MaxAge has passed, and for an unknown kid, but never twice in RetryAfter.
// Without an answer the known keys stay. Safe for concurrent use.
type JWKS struct {
	URL        string
	Client     *http.Client
	MaxAge     time.Duration
	RetryAfter time.Duration

	known    atomic.Pointer[answer]
	fetching chan struct{} // holds one item while there is a fetch
	tried    time.Time     // belongs to whoever put that item there
}

// answer is what the URL last gave.
type answer struct {
	keys KeySet
	at   time.Time
}

// NewJWKS returns the keys at this URL, with the ages that Latchkey asks for.
func NewJWKS(url string) *JWKS {
	jwks := &JWKS{
		URL:        url,
		Client:     &http.Client{Timeout: 5 * time.Second},
		MaxAge:     5 * time.Minute,
		RetryAfter: 10 * time.Second,
		fetching:   make(chan struct{}, 1),
	}
	jwks.known.Store(&answer{})
	return jwks
}

// Keys returns the keys, which it fetches if that is due. The error is
// ErrKeysUnavailable or that of the context.
func (j *JWKS) Keys(ctx context.Context, kid string) (KeySet, error) {
	known := j.known.Load()
	if known.keys.has(kid) {
		if time.Since(known.at) < j.MaxAge {
			return known.keys, nil
		}
		// Whoever can do without the answer does not wait for another's fetch.
		select {
		case j.fetching <- struct{}{}:
		default:
			return known.keys, nil
		}
	} else {
		select {
		case j.fetching <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer func() { <-j.fetching }()

	// Another may have fetched meanwhile.
	known = j.known.Load()
	due := time.Since(known.at) >= j.MaxAge || !known.keys.has(kid)
	if due && time.Since(j.tried) >= j.RetryAfter {
		j.tried = time.Now()
		// Not bound to this call's context: others wait for the answer too.
		if keys, err := j.get(); err != nil {
			slog.Warn("cannot fetch the signing keys", "error", err)
		} else {
			known = &answer{keys: keys, at: j.tried}
			j.known.Store(known)
		}
	}
	if len(known.keys) == 0 {
		return nil, ErrKeysUnavailable
	}
	return known.keys, nil
}

func (j *JWKS) get() (KeySet, error) {
	response, err := j.Client.Get(j.URL)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxJWKSBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxJWKSBytes {
		return nil, errors.New("the key set is too large")
	}
	return ParseKeySet(text)
}
