// Package accesstoken validates Latchkey's access tokens locally, as the user
// service does.
//
// golang-jwt checks the signature. The rest is stricter than what any JWT
// library does by default, so it is written out here, in the order of
// crates/token-verifier/README.md. Copy the package into your service.
//
//	keys := accesstoken.NewJWKS("http://localhost:3000/.well-known/jwks.json")
//	validator := accesstoken.New(keys, "http://localhost:3000", "latchkey")
//	claims, err := validator.Validate(ctx, token)
package accesstoken

import (
	"context"
	"encoding/base64"
	"errors"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	maxTokenBytes = 8 * 1024
	maxEmailBytes = 254
	maxTime       = 253_402_300_799 // the end of the year 9999, in seconds since 1970
	maxInteger    = 1<<53 - 1       // the same number in every JSON parser
	maxCandidates = 16              // each costs a check of a signature
)

// ErrKeysUnavailable says that no keys have arrived yet, so that a good token
// cannot be told from a bad one: answer 503.
var ErrKeysUnavailable = errors.New("no signing keys have arrived yet")

// InvalidError says that the token is refused: answer 401.
type InvalidError struct {
	// Reason is a name for logs, the same as in token-verifier. Callers learn
	// nothing of it.
	Reason string
}

func (e *InvalidError) Error() string {
	return "invalid token: " + e.Reason
}

func invalid(reason string) error {
	return &InvalidError{Reason: reason}
}

// Claims is what a valid token says. What the token does not say is zero.
type Claims struct {
	Subject   string // the id of the account, a UUID
	Email     string
	IssuedAt  time.Time // in whole seconds, as all times
	ExpiresAt time.Time
	NotBefore time.Time
	Issuer    string
	Audience  []string
	ID        string
	// Generation is that of the account's credentials (gen); absent, it is 0.
	Generation uint64
	SessionID  string // the session that the token belongs to (sid), a UUID
	// EmailVerified is nil where the issuer does not verify addresses.
	EmailVerified *bool
}

// Keys gives the keys that are trusted now, for a token that names kid; kid is
// empty when the token names none. A JWKS is one, and so is a KeySet.
type Keys interface {
	Keys(ctx context.Context, kid string) (KeySet, error)
}

// Validator holds the rules. Safe for concurrent use once it is set up.
type Validator struct {
	Keys      Keys
	Issuer    string           // the iss that a token must have; empty: any
	Audience  string           // the aud that a token must have; empty: any
	ExpLeeway time.Duration    // how long after its end a token is still taken
	ClockSkew time.Duration    // how far ahead iat and nbf may lie
	Now       func() time.Time // the clock
	// Revocations refuses the tokens that it lists; nil: no token is looked up.
	Revocations *RevocationList
}

// New returns a validator with Latchkey's defaults: no leeway for the end, and
// 60 seconds of clock skew for the beginning.
func New(keys Keys, issuer, audience string) *Validator {
	return &Validator{
		Keys:      keys,
		Issuer:    issuer,
		Audience:  audience,
		ClockSkew: 60 * time.Second,
		Now:       time.Now,
	}
}

// Validate returns the claims of a valid token. For any other the error is an
// *InvalidError; it can also be ErrKeysUnavailable or that of the context.
func (v *Validator) Validate(ctx context.Context, token string) (Claims, error) {
	if len(token) > maxTokenBytes {
		return Claims{}, invalid("too_long")
	}
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		return Claims{}, invalid("not_compact")
	}
	var decoded [3][]byte
	for i, segment := range segments {
		var err error
		if decoded[i], err = decode(segment); err != nil {
			return Claims{}, err
		}
	}

	header, err := readHeader(decoded[0])
	if err != nil {
		return Claims{}, err
	}
	keys, err := v.Keys.Keys(ctx, header.kid)
	if err != nil {
		return Claims{}, err
	}
	candidates, err := keys.candidates(header)
	if err != nil {
		return Claims{}, err
	}
	signed := token[:strings.LastIndexByte(token, '.')]
	method := jwt.GetSigningMethod(header.alg)
	if !slices.ContainsFunc(candidates, func(key Key) bool {
		return method.Verify(signed, decoded[2], key.Public) == nil
	}) {
		return Claims{}, invalid("bad_signature")
	}

	claims, err := readClaims(decoded[1])
	if err != nil {
		return Claims{}, err
	}
	if err := v.check(claims); err != nil {
		return Claims{}, err
	}
	if v.Revocations != nil && v.Revocations.Revokes(claims) {
		return Claims{}, invalid("revoked")
	}
	return claims, nil
}

// check compares the times and the parties with the rules. A token that is
// "expired" is good but for that.
func (v *Validator) check(claims Claims) error {
	now := v.Now().Truncate(time.Second)
	latest := now.Add(v.ClockSkew)
	if claims.IssuedAt.After(latest) || claims.NotBefore.After(latest) {
		return invalid("not_yet_valid")
	}
	switch {
	case v.Issuer == "":
	case claims.Issuer == "":
		return invalid("missing_claim")
	case claims.Issuer != v.Issuer:
		return invalid("wrong_issuer")
	}
	switch {
	case v.Audience == "":
	case len(claims.Audience) == 0:
		return invalid("missing_claim")
	case !slices.Contains(claims.Audience, v.Audience):
		return invalid("wrong_audience")
	}
	if !claims.ExpiresAt.After(now.Add(-v.ExpLeeway)) {
		return invalid("expired")
	}
	return nil
}

// decode takes base64url in its one canonical form. Go's decoder skips line
// breaks, and left-over bits unless it is strict; encoding again finds both.
func decode(segment string) ([]byte, error) {
	raw, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil || base64.RawURLEncoding.EncodeToString(raw) != segment {
		return nil, invalid("bad_base64")
	}
	return raw, nil
}

// header is what chooses the key. It never says how to check.
type header struct {
	alg      string
	kid      string
	namesKey bool // whether there is a kid: an empty one names no key
}

func readHeader(text []byte) (header, error) {
	members, err := readObject(text)
	if err != nil {
		return header{}, err
	}
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool {
			_, ok := members[name]
			return ok
		})
	}
	switch {
	case has("jwk", "jku", "x5c", "x5u"):
		return header{}, invalid("key_in_header")
	case has("crit"):
		return header{}, invalid("critical_header")
	case has("b64", "enc", "zip"):
		return header{}, invalid("unsupported_header")
	}
	if has("typ") {
		typ, _ := members["typ"].(string)
		if !slices.Contains([]string{"jwt", "at+jwt", "application/at+jwt"}, strings.ToLower(typ)) {
			return header{}, invalid("wrong_type")
		}
	}
	alg, _ := members["alg"].(string)
	if alg == "Ed25519" {
		alg = "EdDSA" // two names for one algorithm (RFC 9864)
	}
	if !slices.Contains([]string{"RS256", "ES256", "EdDSA", "HS256"}, alg) {
		return header{}, invalid("unsupported_algorithm")
	}
	kid, ok := members["kid"].(string)
	if has("kid") && !ok {
		return header{}, invalid("bad_kid")
	}
	return header{alg: alg, kid: kid, namesKey: ok}, nil
}

// One spelling of a UUID: lower case with hyphens.
var canonicalUUID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

const nilUUID = "00000000-0000-0000-0000-000000000000"

func readClaims(text []byte) (Claims, error) {
	members, err := readObject(text)
	if err != nil {
		return Claims{}, err
	}
	for _, name := range []string{"sub", "iat", "exp"} {
		if _, ok := members[name]; !ok {
			return Claims{}, invalid("missing_claim")
		}
	}
	ok := true
	claims := Claims{
		Subject:   textOf(members, "sub", &ok),
		Email:     textOf(members, "email", &ok),
		IssuedAt:  timeOf(members, "iat", &ok),
		ExpiresAt: timeOf(members, "exp", &ok),
		NotBefore: timeOf(members, "nbf", &ok),
		Issuer:    textOf(members, "iss", &ok),
		Audience:  audienceOf(members, &ok),
		ID:        textOf(members, "jti", &ok),

		Generation:    generationOf(members, &ok),
		SessionID:     textOf(members, "sid", &ok),
		EmailVerified: flagOf(members, "email_verified", &ok),
	}
	_, hasSession := members["sid"]
	if hasSession && !isID(claims.SessionID) {
		return Claims{}, invalid("invalid_claim")
	}
	if !ok || !isID(claims.Subject) ||
		len(claims.Email) > maxEmailBytes {
		return Claims{}, invalid("invalid_claim")
	}
	return claims, nil
}

func isID(text string) bool {
	return canonicalUUID.MatchString(text) && text != nilUUID
}

// textOf, timeOf and the others return zero for a claim that is absent, and set
// ok to false for one that is not what it must be.

func textOf(members map[string]any, name string, ok *bool) string {
	value, present := members[name]
	text, isText := value.(string)
	*ok = *ok && (isText || !present)
	return text
}

func timeOf(members map[string]any, name string, ok *bool) time.Time {
	value, present := members[name]
	if !present {
		return time.Time{}
	}
	// Every whole number in this range is exact in a float64.
	seconds, isNumber := value.(float64)
	if !isNumber || seconds < 0 || seconds > maxTime {
		*ok = false
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

func generationOf(members map[string]any, ok *bool) uint64 {
	value, present := members["gen"]
	number, isNumber := value.(float64)
	*ok = *ok && (!present || isNumber && number >= 0 && number <= maxInteger && number == math.Trunc(number))
	return uint64(number)
}

func flagOf(members map[string]any, name string, ok *bool) *bool {
	value, present := members[name]
	flag, isFlag := value.(bool)
	*ok = *ok && (isFlag || !present)
	if !present {
		return nil
	}
	return &flag
}

func audienceOf(members map[string]any, ok *bool) []string {
	var names []string
	switch value := members["aud"].(type) {
	case string:
		names = []string{value}
	case []any:
		for _, item := range value {
			name, isText := item.(string)
			*ok = *ok && isText
			names = append(names, name)
		}
	default:
		_, present := members["aud"]
		*ok = *ok && !present
	}
	return names
}
