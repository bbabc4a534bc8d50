// Provide and Register Document Set-b [ITI-41] with nothing but .NET: SOAP 1.2 and MTOM by hand.
//
//     dotnet run examples/dotnet/Submit.cs -- http://127.0.0.1:8080/xds/repository 'ID^^^&OID&ISO' FILE text/plain
//
// (.NET 10 runs a single file; with an older one, from .NET Core 3.1, it is the Program.cs of a `dotnet new console`.)
// Prints the uniqueId of the new document. Exit code: 0 registered, 1 refused. The same as examples/java/Submit.java, method
// by method. The metadata is the least that XDS asks for; its codes are among those of schemas/samples/affinity-domain.toml.

using System;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Numerics;
using System.Security;
using System.Text;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using System.Xml.Linq;

static class Submit
{
    const string Action = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b";
    const string ObjectType = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:";
    const string AssociationType = "urn:oasis:names:tc:ebxml-regrep:AssociationType:";
    const string Loinc = "2.16.840.1.113883.6.1";
    const string SnomedCt = "2.16.840.1.113883.6.96";

    static async Task<int> Main(string[] args)
    {
        string repository = args[0];
        string patientId = args[1];
        string file = args[2];
        string mimeType = args[3];
        string uniqueId = NewOid();

        // The message: an envelope that names the document by its Content-ID, then the document's bytes as they are.
        string boundary = "toimik-" + Guid.NewGuid();
        string head = string.Join("\r\n",
            "--" + boundary,
            "Content-Type: application/xop+xml; charset=UTF-8; type=\"application/soap+xml\"",
            "Content-Transfer-Encoding: binary",
            "Content-ID: <envelope@example.org>",
            "",
            Envelope(repository, patientId, Path.GetFileName(file), mimeType, uniqueId),
            "--" + boundary,
            "Content-Type: " + mimeType,
            "Content-Transfer-Encoding: binary",
            "Content-ID: <document@example.org>",
            "", "");
        string tail = "\r\n--" + boundary + "--\r\n";
        using var message = new MemoryStream();
        message.Write(Encoding.UTF8.GetBytes(head));
        message.Write(File.ReadAllBytes(file));
        message.Write(Encoding.UTF8.GetBytes(tail));
        using var content = new ByteArrayContent(message.ToArray());
        content.Headers.ContentType = MediaTypeHeaderValue.Parse(
            "multipart/related; boundary=\"" + boundary + "\"; type=\"application/xop+xml\"; "
            + "start=\"<envelope@example.org>\"; start-info=\"application/soap+xml\"; action=\"" + Action + "\"");
        using var client = new HttpClient();
        using var response = await client.PostAsync(repository, content);
        string answer = await response.Content.ReadAsStringAsync();

        return Told(answer, uniqueId) ? 0 : 1;
    }

    // Print what an answer says: Success, a Failure with its errors, or a SOAP fault.
    static bool Told(string answer, string uniqueId)
    {
        // An MTOM message is answered with one: the envelope is the part between the MIME headers and the last boundary.
        var envelope = Regex.Match(answer, @"<(\w*:?)Envelope\b.*</\1Envelope>", RegexOptions.Singleline);
        if (!envelope.Success) throw new InvalidOperationException("no SOAP: " + answer);
        var xml = XDocument.Parse(envelope.Value);
        XNamespace soap = "http://www.w3.org/2003/05/soap-envelope";
        var fault = xml.Descendants(soap + "Text").FirstOrDefault();
        if (fault != null)
        {
            Console.WriteLine("Fault: " + fault.Value);
            return false;
        }
        XNamespace rs = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0";
        foreach (var error in xml.Descendants(rs + "RegistryError"))
        {
            Console.WriteLine(error.Attribute("errorCode")?.Value + ": " + error.Attribute("codeContext")?.Value);
        }
        string status = xml.Descendants(rs + "RegistryResponse").First().Attribute("status").Value.Split(':').Last();
        bool registered = status == "Success";
        Console.WriteLine(status + (registered ? ": " + uniqueId : ""));
        return registered;
    }

    static string Envelope(string to, string patientId, string title, string mimeType, string uniqueId)
    {
        string now = DateTime.UtcNow.ToString("yyyyMMddHHmmss", CultureInfo.InvariantCulture);
        return $@"<soap:Envelope xmlns:soap=""http://www.w3.org/2003/05/soap-envelope"" xmlns:wsa=""http://www.w3.org/2005/08/addressing"">
<soap:Header>
<wsa:To>{Escaped(to)}</wsa:To>
<wsa:Action soap:mustUnderstand=""true"">{Action}</wsa:Action>
<wsa:MessageID>{NewId()}</wsa:MessageID>
<wsa:ReplyTo><wsa:Address>http://www.w3.org/2005/08/addressing/anonymous</wsa:Address></wsa:ReplyTo>
</soap:Header>
<soap:Body>
<xdsb:ProvideAndRegisterDocumentSetRequest xmlns:xdsb=""urn:ihe:iti:xds-b:2007"">
<lcm:SubmitObjectsRequest xmlns:lcm=""urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"">
<RegistryObjectList xmlns=""urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"">
{DocumentEntry(patientId, title, mimeType, uniqueId, now)}
{SubmissionSet(patientId, now)}
{HasMember()}
</RegistryObjectList>
</lcm:SubmitObjectsRequest>
<xdsb:Document id=""Document01""><xop:Include xmlns:xop=""http://www.w3.org/2004/08/xop/include"" href=""cid:document@example.org""/></xdsb:Document>
</xdsb:ProvideAndRegisterDocumentSetRequest>
</soap:Body>
</soap:Envelope>";
    }

    // ITI TF-3: 4.2.3.2. The repository adds size, hash and repositoryUniqueId.
    static string DocumentEntry(string patientId, string title, string mimeType, string uniqueId, string now)
    {
        string of = "Document01";
        return string.Join("\n",
            $"<ExtrinsicObject id=\"{of}\" mimeType=\"{mimeType}\" objectType=\"urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1\">",
            Slot("creationTime", now),
            Slot("languageCode", "en-GB"),
            Slot("sourcePatientId", patientId),
            Name(title),
            Code(of, "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a", "11506-3", Loinc, "Progress note"), // classCode
            Code(of, "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983", "11506-3", Loinc, "Progress note"), // typeCode
            Code(of, "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d", "urn:ihe:iti:xds:2017:mimeTypeSufficient",
                "1.3.6.1.4.1.19376.1.2.3", "mimeType sufficient"), // formatCode
            Code(of, "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f", "N", "2.16.840.1.113883.5.25", "normal"),
            Code(of, "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1", "22232009", SnomedCt, "Hospital"),
            Code(of, "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead", "394802001", SnomedCt, "General medicine"),
            Identifier(of, "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427", "XDSDocumentEntry.patientId", patientId),
            Identifier(of, "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab", "XDSDocumentEntry.uniqueId", uniqueId),
            "</ExtrinsicObject>");
    }

    // ITI TF-3: 4.2.3.3.
    static string SubmissionSet(string patientId, string now)
    {
        string of = "SubmissionSet01";
        return string.Join("\n", $"<RegistryPackage id=\"{of}\">",
            Slot("submissionTime", now),
            $"<Classification id=\"{NewId()}\" classifiedObject=\"{of}\" objectType=\"{ObjectType}Classification\" "
            + "classificationNode=\"urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd\"/>", // "this package is a SubmissionSet"
            Code(of, "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500", "11429006", SnomedCt, "Consultation"),
            Identifier(of, "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446", "XDSSubmissionSet.patientId", patientId),
            // sourceId: an OID of the system that sends, always the same. This one is the example's.
            Identifier(of, "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832", "XDSSubmissionSet.sourceId",
                "2.25.87263411091372583047921035681107934052"),
            Identifier(of, "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8", "XDSSubmissionSet.uniqueId", NewOid()),
            "</RegistryPackage>");
    }

    // ITI TF-3: 4.2.2.1. The SubmissionSet brings the document.
    static string HasMember() =>
        $"<Association id=\"Association01\" associationType=\"{AssociationType}HasMember\" objectType=\"{ObjectType}Association\" "
        + $"sourceObject=\"SubmissionSet01\" targetObject=\"Document01\">" + Slot("SubmissionSetStatus", "Original") + "</Association>";

    static string Slot(string name, string value) =>
        $"<Slot name=\"{name}\"><ValueList><Value>{Escaped(value)}</Value></ValueList></Slot>";

    static string Name(string text) =>
        $"<Name><LocalizedString value=\"{Escaped(text)}\"/></Name>";

    static string Code(string of, string scheme, string code, string codingScheme, string display) =>
        $"<Classification id=\"{NewId()}\" classifiedObject=\"{of}\" classificationScheme=\"{scheme}\" "
        + $"objectType=\"{ObjectType}Classification\" nodeRepresentation=\"{code}\">"
        + Slot("codingScheme", codingScheme) + Name(display) + "</Classification>";

    static string Identifier(string of, string scheme, string name, string value) =>
        $"<ExternalIdentifier id=\"{NewId()}\" registryObject=\"{of}\" identificationScheme=\"{scheme}\" "
        + $"objectType=\"{ObjectType}ExternalIdentifier\" value=\"{Escaped(value)}\">{Name(name)}</ExternalIdentifier>";

    static string NewId() => "urn:uuid:" + Guid.NewGuid();

    // An OID that nobody has: made from a UUID (ITU-T X.667).
    static string NewOid() =>
        "2.25." + BigInteger.Parse("0" + Guid.NewGuid().ToString("N"), NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    static string Escaped(string text) => SecurityElement.Escape(text);
}
