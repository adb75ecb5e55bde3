//! Every difference of keys from the recordings, and its reason.

/// Kinds of frames (`row` is a session row in any of them, `flat` one whose members are the payload's own), the paths
/// that only the recording (`-`) or only this gateway (`+`) has, and why.
pub const KEYS: &[(&str, &str, &str)] = &[
    ("agent lifecycle end", "+data.replayInvalid +isHeartbeat", "said of every end, as recorded of most"),
    (
        "row",
        "-agentStatus -archiveReason -archivedAt -archivedBy -autoLabel -boardPresentation -channelAvatarUrl \
         -color -controlOwnerSessionKey -createdActor -goal -icon -observerDigest -owner -permissionMode \
         -pinnedAt -providerReview -restartRecoveryStatus -swarm -toolOverrides",
        "null in the rows of tool events; the flat row beside them has them",
    ),
    ("flat, row", "+sharingRole", "rows are whole wherever they are told"),
    (
        "agent tool update, session.tool update",
        "-data.partialResult.details.sessionId",
        "commands have no sessions of their own",
    ),
    ("agent tool result", "-data.result.details", "what went wrong is in the text"),
    (
        "agent tool result",
        "+data.result.details.lines +data.result.details.offset +data.result.details.path \
         +data.result.details.totalLines +data.result.details.truncated -data.result.details.content \
         -data.result.details.kind",
        "beside its text a read tells which lines of which file these are",
    ),
    ("res agent ok", "-result.meta.toolSummary.unresolvedError", "the failures are counted"),
    (
        "res chat.history ok",
        "-messages[].openclawStreamFallback",
        "an answer is one row, with its text and its calls",
    ),
    (
        "agent lifecycle end",
        "+data.terminalReply.blocks",
        "the reply as typed blocks is this gateway's own; told when it is more than text",
    ),
    (
        "session.message user",
        "+message.__openclaw.transport",
        "told of every client, as recorded of `chat.send`",
    ),
    ("session.message assistant", "-message.responseId", "models here do not name their answers"),
    (
        "session.message assistant, session.message user, sessions.changed",
        "-ancestorSessions[]row",
        "ancestors are named by `parentSessionKey`, and told by themselves",
    ),
    ("res agent in_flight", "+agentId +sessionKey", "told also of a key that `chat.send` used"),
    (
        "res agent.wait ok",
        "+livenessState +startedAt +stopReason",
        "a run's outcome is told whole; recorded with and without",
    ),
    (
        "res agent ok",
        "-result.meta.agentMeta.agentHarnessId -result.meta.agentMeta.assistantTurns \
         -result.meta.agentMeta.bridgeCalls -result.meta.agentMeta.codeModeEngaged \
         -result.meta.agentMeta.contextBudgetStatus -result.meta.agentMeta.contextTokensSource \
         -result.meta.agentMeta.costUsd -result.meta.agentMeta.credentialSource \
         -result.meta.agentMeta.lastCallUsage -result.meta.completion -result.meta.executionTrace \
         -result.meta.requestShaping -result.meta.systemPromptReport -result.sourceReplyDeliveryState",
        "figures of the recorded agent harness",
    ),
    (
        "res agent ok",
        "-result.meta.finalAssistantRawText -result.meta.finalAssistantVisibleText \
         -result.meta.finalPromptText -result.meta.livenessState -result.meta.replayInvalid \
         -result.meta.stopReason",
        "said elsewhere: the text in `payloads`, the rest by the events of the end",
    ),
    (
        "res agent ok",
        "+result.meta.agentMeta.terminalReceipt.terminalDisposition \
         -result.meta.agentMeta.terminalReceipt.runId -result.meta.agentMeta.terminalReceipt.turnId",
        "the run is named beside it, and how it ended is in the receipt",
    ),
    (
        "flat, row",
        "-activeModel -activeModelProvider -activitySummary \
         -agentRuntime.cloudPlacementExecutionMode -agentRuntime.devicePlacement -hasAutomation \
         -placement",
        "of features this gateway has not",
    ),
    (
        "flat, row",
        "-abortedLastRun -estimatedCostUsd -inputTokens -outputTokens -runtimeMs -systemSent -totalTokens",
        "told when there is something to tell; recorded false, null or an estimate before",
    ),
    ("row", "-displayName", "of ancestors"),
    ("flat, row", "-participantCount -participants", "nobody has been heard in a session that was just made"),
    ("row", "-expandedParticipants", "nobody has been heard in a session that was just made"),
    (
        "row",
        "-derivedTitle -lastMessagePreview",
        "told by `sessions.list` when it is asked to, and by nothing else",
    ),
    ("flat, row", "-lastActivityAt", "`lastInteractionAt` and `updatedAt` tell it"),
    ("flat, row", "-childSessions", "children name their parent; a parent names none"),
    ("flat, row", "-parentSessionKey -spawnDepth", "recorded of a session that `sessions.create` had made"),
    (
        "flat, row",
        "+abortedLastRun +chatType +estimatedCostUsd +hasActiveRun +inputTokens +lastInteractionAt +outputTokens \
         +parentSessionId +status +systemSent +thinkingDefault +thinkingLevels +thinkingOptions \
         +totalTokens",
        "rows are whole wherever they are told",
    ),
    (
        "row",
        "+category +derivedTitle +displayName +endedAt +expandedParticipants +label +lastRunId \
         +parentSessionKey +participantCount +participants +runtimeMs +spawnDepth",
        "rows are whole wherever they are told",
    ),
    ("flat, row", "-contextBudgetStatus", "budgets are not told"),
    (
        "flat, row",
        "+mode +toolPermissions +memoryRefs",
        "of this gateway's own sessions; no tools or memories yet",
    ),
    ("flat, row", "-endedAt", "recorded of the run before, also while the next one goes on"),
    ("row", "+activeRunIds", "always exact here; unknown (null) there while a run goes on"),
    ("flat, row", "+startedAt", "known from the moment a run begins; recorded later"),
    (
        "flat",
        "+activeRunIds +agentRuntime +classification +contextTokens +effectiveQueueMode +isBackground \
         +isMain +model +modelOverrideSource +modelProvider +participants[].identity +queueMode \
         +runtimeSelectionLocked +totalTokensFresh +updatedAt",
        "rows are whole wherever they are told",
    ),
    ("flat", "+placementMove", "null, as of others: a session has none"),
    (
        "res chat.history ok",
        "+defaults.thinkingDefault +defaults.thinkingLevels +defaults.thinkingOptions +thinkingLevel",
        "told always, as in `sessions.list`",
    ),
    (
        "res chat.history ok",
        "-pendingInputs.items[].acceptedAt -pendingInputs.items[].id -pendingInputs.items[].message \
         -pendingInputs.items[].runId -pendingInputs.items[].state",
        "nothing waits any more: what was aborted or cut off is settled",
    ),
    (
        "res agents.files.get ok",
        "+file.expectedAbsent -file.content -file.hash -file.size -file.updatedAtMs",
        "workspaces are not filled with templates",
    ),
    (
        "res agents.files.list ok",
        "-files[].size -files[].updatedAtMs",
        "workspaces are not filled with templates",
    ),
    (
        "res agents.list ok",
        "-agents[].createdAt -agents[].createdVia -agents[].creatorAgentId \
         -agents[].defaultPermissionMode",
        "not kept: who made an agent and when; permission modes",
    ),
    ("agent lifecycle error", "+data.aborted", "said of every end, as recorded of most"),
    (
        "res agent.wait error",
        "+startedAt +terminalReceipt +terminalReply",
        "a run's outcome is told whole; recorded with and without",
    ),
    ("res chat.history ok", "+deltaCursor", "told always"),
    ("res chat.history ok", "+messages[].errorMessage", "recorded of a row whose time was up later"),
    (
        "agent lifecycle fallback_step",
        "-data.fallbackStepFromFailureDetail",
        "a provider's own words may quote its key",
    ),
    ("agent lifecycle error", "-data.errorObservation", "an abort is no failure, whatever failed before it"),
    ("agent lifecycle error", "+data.terminalReply.text", "what was said before the time was up is kept"),
    ("res chat.history ok", "+inFlightRun.events[].isHeartbeat", "events stand there as they were told"),
    ("row", "+lastRunError", "rows are whole wherever they are told"),
    (
        "res agent timeout",
        "-result.meta.agentMeta.agentHarnessId -result.meta.agentMeta.assistantTurns \
         -result.meta.agentMeta.bridgeCalls -result.meta.agentMeta.codeModeEngaged \
         -result.meta.agentMeta.contextBudgetStatus -result.meta.agentMeta.contextTokensSource \
         -result.meta.agentMeta.credentialSource -result.meta.executionTrace \
         -result.meta.modelFallbackStopReason -result.meta.systemPromptReport -result.sourceReplyDeliveryState",
        "figures of the recorded agent harness",
    ),
    (
        "res agent timeout",
        "-result.meta.error -result.meta.finalAssistantRawText -result.meta.finalAssistantVisibleText \
         -result.meta.finalPromptText -result.meta.livenessState -result.meta.providerStarted \
         -result.meta.replayInvalid -result.meta.timeoutPhase",
        "said elsewhere: the text in `payloads`, the rest by the events of the end",
    ),
    (
        "res agent timeout",
        "+result.meta.agentMeta.promptTokens +result.meta.agentMeta.usage \
         +result.meta.agentMeta.terminalReceipt.terminalDisposition \
         -result.meta.agentMeta.terminalReceipt.runId -result.meta.agentMeta.terminalReceipt.turnId",
        "told as of every other end",
    ),
    (
        "row",
        "-category -label -lastInteractionAt -lastRunError -lastRunId -markedUnreadAt -startedAt -status \
         -thinkingLevel -verboseLevel",
        "of sessions that only the recorded gateway had: the children, ancestors and others in its lists",
    ),
    (
        "chat final",
        "+message.usage.cacheRead +message.usage.cacheWrite +message.usage.cost",
        "usage is told whole",
    ),
    ("res chat.history ok", "-messages[].responseId", "models here do not name their answers"),
    (
        "res chat.history ok",
        "-messages[].openclawDelivery",
        "no text is held back until the end of an answer",
    ),
    (
        "res chat.history ok",
        "+inFlightRun +inFlightRun.events -inFlightRun -inFlightRun.events",
        "a run is in flight from its first event to its last, and none is after a restart; recorded otherwise",
    ),
    ("session.message user", "+message.__openclaw.steerTargetRunId", "what joins a run names it"),
    (
        "res chat.history ok",
        "+messages[].__openclaw.runId +messages[].api +messages[].content[].text \
         +messages[].content[].type +messages[].model +messages[].provider +messages[].stopReason \
         +messages[].usage",
        "the answer of a run that was cut off is there",
    ),
    (
        "res chat.history ok",
        "+messages[].__openclaw.recordTimestampMs +messages[].__openclaw.transport",
        "told of every row",
    ),
    (
        "res chat.history ok",
        "-messages[].customType -messages[].display -messages[].provenance",
        "of rows about failed and interrupted turns: there are `assistant` rows for those, and none for these",
    ),
    ("res sessions.list ok", "-sessions[]row", "an active session of another scenario"),
    ("res chat.history ok", "-sessionInfo", "a session that does not exist has no row"),
    (
        "res sessions.reset ok",
        "+entry.lastInteractionAt -entry.chatType -entry.delivery",
        "where a session is delivered to follows from its key, and is not kept; when it was heard is",
    ),
    (
        "chat final",
        "+message.__openclaw",
        "commands and their answers are never read by the model; recorded of `/status` only",
    ),
    (
        "chat final, session.message assistant, session.message user",
        "+message.excludeFromContext",
        "commands and their answers are never read by the model; recorded of `/status` only",
    ),
    ("flat", "-catalogChanged", "the catalog stays the same when a session takes another model"),
    ("flat", "-status", "rows of a command are told when all of it is done; the session has no run then"),
    (
        "res chat.history ok",
        "+messages[].__openclaw.contextFreeCommand +messages[].excludeFromContext",
        "commands and their answers are never read by the model; recorded of `/status` only",
    ),
    (
        "session.message assistant, session.message user",
        "+message.__openclaw.contextFreeCommand",
        "commands and their answers are never read by the model; recorded of `/status` only",
    ),
];
