package admin

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"

	"golang.org/x/text/secure/precis"
)

// scramIterations is PostgreSQL's own default.
const scramIterations = 4096

// Verifier is what PostgreSQL keeps of a password under SCRAM-SHA-256 (RFC 5803),
// with a fresh salt. Sent in place of the password, it keeps the password out of
// every statement and log.
func Verifier(password string) (string, error) {
	salt := make([]byte, 16)
	rand.Read(salt) // it never fails: the runtime ends the process instead
	return verifier(password, salt, scramIterations)
}

// MD5 is what PostgreSQL keeps of a password under md5, which it deprecates. It
// too keeps the password out of statements and logs.
func MD5(password, role string) string {
	sum := md5.Sum([]byte(password + role))
	return "md5" + hex.EncodeToString(sum[:])
}

func verifier(password string, salt []byte, iterations int) (string, error) {
	if p, err := precis.OpaqueString.String(password); err == nil {
		password = p // as clients do; what can't be prepared is taken as it is
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("compute the SCRAM verifier: %w", err)
	}
	stored := sha256.Sum256(sign(salted, "Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(sign(salted, "Server Key"))), nil
}

func sign(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
