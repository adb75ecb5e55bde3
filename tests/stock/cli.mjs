export async function checkCli() {}
