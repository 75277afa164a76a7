"""What is demanded of gateways. `mockserver verify` and `mockserver proxy` judge each answer as it comes."""

from __future__ import annotations

from mockserver.reporting.rule import RuleFacts

GATEWAY_RULES = (
    RuleFacts(
        code="MC701",
        title="answers with a status that is not listed",
        severity="error",
        rests_on="the contract, which lists the statuses of each operation",
        demand="The status is one that the contract lists for the operation. 429 and 5xx show nothing.",
        example="A create is answered 418.",
    ),
    RuleFacts(
        code="MC702",
        title="sends a body that does not fit its schema",
        severity="error",
        rests_on="the contract's schemas",
        demand="Each body fits its schema. Properties that the contract does not know are warnings.",
        example="A prediction comes without `created_at`.",
    ),
    RuleFacts(
        code="MC703",
        title="declares another media type",
        severity="error",
        rests_on="the contract, which lists the media types of each answer",
        demand="The Content-Type is one that the contract has for the answer.",
        example="A prediction comes as text/plain.",
    ),
    RuleFacts(
        code="MC704",
        title="breaks the life cycle",
        severity="error",
        rests_on="the contract: a prediction's shape depends on its status, and what is terminal stays",
        demand="Statuses are known, never go back, and stay once they are terminal; there is an output exactly when "
        "there should be one; times are in order; a cancel cancels.",
        example="A prediction is `processing` again after it was `succeeded`.",
    ),
    RuleFacts(
        code="MC705",
        title="takes what the contract forbids",
        severity="error",
        rests_on="the contract, and money: what is accepted is billed",
        demand="What the contract forbids is refused, with an error of the documented shape.",
        example="A create without a prompt makes a prediction.",
    ),
    RuleFacts(
        code="MC706",
        title="echoes something else",
        severity="error",
        rests_on="the contract: a prediction tells its model, and the input as it was sent",
        demand="A prediction has the id and the model that were asked for, and each input as it was sent.",
        example="The prompt comes back cut short.",
    ),
    RuleFacts(
        code="MC707",
        title="delivers no picture, or another",
        severity="error",
        rests_on="the contract: `output` is the picture's URL; its input names format and ratio",
        demand="The picture can be fetched, has the format that was asked for, and the ratio, within 2 %.",
        example="A PNG arrives where a JPEG was asked for.",
    ),
    RuleFacts(
        code="MC708",
        title="leads urls elsewhere",
        severity="warning",
        rests_on="secrets: a client that follows `urls.*` to another origin takes its token there",
        demand="`urls.*` lead to the gateway's own origin.",
        example="`urls.get` leads to the API behind the gateway.",
    ),
    RuleFacts(
        code="MC709",
        title="sends the token back",
        severity="error",
        rests_on="secrets: answers are logged, and shown to people",
        demand="The token that was sent stands nowhere in the answer.",
        example="An error repeats the Authorization header.",
    ),
)

BY_CODE = {rule.code: rule for rule in GATEWAY_RULES}
