"""MC7xx: rules for gateways, by which `verify` and `proxy` judge each response."""

from __future__ import annotations

from mockserver.reporting.rule import RuleFacts

GATEWAY_RULES = (
    RuleFacts(
        code="MC701",
        title="returns an undocumented status",
        severity="error",
        rests_on="the contract, which lists the statuses of each operation",
        demand=(
            "The status is one that the contract lists for the operation. 429 and 5xx are "
            "inconclusive."
        ),
        example="A create is answered with 418.",
    ),
    RuleFacts(
        code="MC702",
        title="sends a body that does not match its schema",
        severity="error",
        rests_on="the contract's schemas",
        demand=(
            "Every body matches its schema. Properties that are not in the contract are warnings."
        ),
        example="A prediction has no `created_at`.",
    ),
    RuleFacts(
        code="MC703",
        title="declares the wrong media type",
        severity="error",
        rests_on="the contract, which lists the media types of each response",
        demand="The Content-Type is one that the contract lists for the response.",
        example="A prediction is sent as text/plain.",
    ),
    RuleFacts(
        code="MC704",
        title="breaks the lifecycle",
        severity="error",
        rests_on=(
            "the contract: the shape of a prediction depends on its status, and a terminal status "
            "is final"
        ),
        demand=(
            "Statuses are known, never go back, and stay once they are terminal. A prediction has "
            "an output exactly when its status requires one. Times are in order. A cancel takes "
            "effect."
        ),
        example="A prediction is `processing` after it was `succeeded`.",
    ),
    RuleFacts(
        code="MC705",
        title="accepts invalid requests",
        severity="error",
        rests_on="the contract, and money: accepted requests are billed",
        demand=(
            "Requests that the contract forbids are rejected, with an error of the documented "
            "shape."
        ),
        example="A create without a prompt makes a prediction.",
    ),
    RuleFacts(
        code="MC706",
        title="echoes the request incorrectly",
        severity="error",
        rests_on="the contract: a prediction has its model, and the input as it was sent",
        demand="A prediction has the requested id and model, and every input as it was sent.",
        example="The prompt is returned truncated.",
    ),
    RuleFacts(
        code="MC707",
        title="delivers the wrong picture",
        severity="error",
        rests_on="the contract: `output` is the picture's URL; its input names format and ratio",
        demand=(
            "The picture can be downloaded, and has the requested format and ratio (within 2 %)."
        ),
        example="A PNG is delivered where a JPEG was requested.",
    ),
    RuleFacts(
        code="MC708",
        title="points urls to another host",
        severity="warning",
        rests_on="secrets: a client that follows `urls.*` to another host sends its token there",
        demand="`urls.*` point to the gateway's own host.",
        example="`urls.get` points to the API behind the gateway.",
    ),
    RuleFacts(
        code="MC709",
        title="returns the token",
        severity="error",
        rests_on="secrets: responses are logged, and shown to people",
        demand="The token of the request is not in the response.",
        example="An error repeats the Authorization header.",
    ),
)

BY_CODE = {rule.code: rule for rule in GATEWAY_RULES}
