// Package problem reads what a failed call to Latchkey says.
package problem

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Problem is a failed call with the details of its google.rpc.Status.
type Problem struct {
	Code codes.Code
	// Reason is a code of docs/errors.md; empty when the services did not answer.
	Reason string
	// Violations says what is wrong, by field.
	Violations []*errdetails.BadRequest_FieldViolation
	// RetryAfter is how long to wait before another try; 0 when it is not told.
	RetryAfter time.Duration
}

// Of returns the problem of an error that a call has returned.
func Of(err error) Problem {
	answer := status.Convert(err)
	problem := Problem{Code: answer.Code()}
	for _, detail := range answer.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			problem.Reason = detail.GetReason()
		case *errdetails.BadRequest:
			problem.Violations = detail.GetFieldViolations()
		case *errdetails.RetryInfo:
			problem.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	return problem
}
